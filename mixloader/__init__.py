"""mixloader: several training images on one canvas, and from their losses, who shares."""

from mixloader.controller import Controller
from mixloader.errors import MixloaderError, MixloaderWarning, ShardError
from mixloader.ledger import LossLedger
from mixloader.loader import MixLoader
from mixloader.plan import Plan
from mixloader.planning import Augment
from mixloader.policies import Allocation
from mixloader.shards import ShardSet
from mixloader.split import SplitLoss, SplitTarget, split_model

__all__ = [
    "Allocation",
    "Augment",
    "Controller",
    "LossLedger",
    "MixLoader",
    "MixloaderError",
    "MixloaderWarning",
    "Plan",
    "ShardError",
    "ShardSet",
    "SplitLoss",
    "SplitTarget",
    "split_model",
]
