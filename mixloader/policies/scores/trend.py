"""Where the loss is heading: what is being forgotten needs more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.scores.score import Needs, percentile


@dataclass(frozen=True)
class ByTrend:
    """The percentile of loss - previous loss: who fell the most needs least, who rose the most needs most.

    A sample with fewer than two finite losses counts as the highest. The losses of a step must be recorded once: who
    scores a batch twice with gradients on (two passes a step, a second criterion) sees no change at all.
    """

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        """As `Score` says."""
        known = losses.known & np.isfinite(losses.previous)
        change = np.subtract(losses.loss, losses.previous, out=np.full(len(losses), np.nan, np.float32), where=known)
        return percentile(change, rng)
