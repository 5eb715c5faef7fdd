"""Policies: ledger and progress in, allocation out. One policy a file, on the protocol in `policy`."""

from mixloader.policies.infobatch import InfoBatch
from mixloader.policies.ladder import Ladder
from mixloader.policies.mixtrain import MixTrain
from mixloader.policies.naive import Naive
from mixloader.policies.policy import Allocation, Budget, Policy, Run
from mixloader.policies.progressive import Progressive
from mixloader.policies.resolution import Resolution
from mixloader.policies.selective import SelectiveBackprop
from mixloader.policies.whole import Whole

__all__ = [
    "Allocation",
    "Budget",
    "InfoBatch",
    "Ladder",
    "MixTrain",
    "Naive",
    "Policy",
    "Progressive",
    "Resolution",
    "Run",
    "SelectiveBackprop",
    "Whole",
]
