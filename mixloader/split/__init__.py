"""The user's side of composite batches: the model, the target and the loss that know of constituents."""

from mixloader.split.loss import SplitLoss
from mixloader.split.model import split_model
from mixloader.split.regions import SLOTS
from mixloader.split.scoring import EMPTY
from mixloader.split.target import Recorder, SplitTarget

__all__ = ["EMPTY", "SLOTS", "Recorder", "SplitLoss", "SplitTarget", "split_model"]
