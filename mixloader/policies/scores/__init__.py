"""Scores: how much canvas each sample needs, from the ledger. One a file, on the protocol in `score`."""

from mixloader.order import ascending
from mixloader.policies.scores.balance import ByClass
from mixloader.policies.scores.blend import Blend
from mixloader.policies.scores.chance import ByChance
from mixloader.policies.scores.loss import ByLoss
from mixloader.policies.scores.score import Needs, Ranked, Score, by_need, percentile
from mixloader.policies.scores.staleness import ByStaleness
from mixloader.policies.scores.trend import ByTrend

__all__ = [
    "Blend",
    "ByChance",
    "ByClass",
    "ByLoss",
    "ByStaleness",
    "ByTrend",
    "Needs",
    "Ranked",
    "Score",
    "ascending",
    "by_need",
    "percentile",
]
