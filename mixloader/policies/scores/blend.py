"""Several scores at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.policies.scores.score import Needs, Score


@dataclass(frozen=True)
class Blend:
    """The weighted mean of several scores.

    Attributes:
        scores: at least one.
        weights: of each, positive; () weighs them alike.
    """

    scores: tuple[Score, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no score, and weights that do not belong to them."""
        for name in ("scores", "weights"):
            value = getattr(self, name)
            if not isinstance(value, tuple):  # a list could be changed, and has no hash
                raise MixloaderError(f"Blend: {name} must be a tuple (a, b, ...), got {value!r}")
        for score in self.scores:
            if isinstance(score, type) or not isinstance(score, Score):
                raise MixloaderError(f"Blend: {score!r} is no score: pass instances, such as ByLoss()")
        if not self.scores or (self.weights and len(self.weights) != len(self.scores)):
            raise MixloaderError(
                f"Blend: {len(self.scores)} scores and {len(self.weights)} weights: give at least one score, and as "
                "many weights or none"
            )
        if not all(isinstance(weight, int | float) and 0 < weight < math.inf for weight in self.weights):
            raise MixloaderError(f"Blend: weights must be numbers above 0, got {self.weights}")

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """As `Score` says."""
        needs = np.stack([score.needs(losses, epoch, rng) for score in self.scores])
        return np.average(needs, axis=0, weights=self.weights or None)
