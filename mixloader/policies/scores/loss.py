"""The loss itself: who has a low one needs less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.scores.score import Needs, percentile


@dataclass(frozen=True)
class ByLoss:
    """The percentile of a sample's last recorded loss; one that is not known, or not finite, counts as the highest."""

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """As `Score` says."""
        return percentile(np.where(losses.known, losses.loss, np.nan), rng)
