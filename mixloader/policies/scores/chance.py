"""Chance: anyone may give up canvas. What the other scores are held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.scores.score import Needs


@dataclass(frozen=True)
class ByChance:
    """A random number for every sample, another one every epoch."""

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """As `Score` says."""
        return rng.random(len(losses))
