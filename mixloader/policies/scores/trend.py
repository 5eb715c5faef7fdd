"""Where the loss is heading: what is being forgotten needs more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.ledger import Losses
from mixloader.policies.scores.score import Ranked


@dataclass(frozen=True)
class ByTrend(Ranked):
    """The percentile of loss - previous loss: who fell the most needs least, who rose the most needs most.

    A sample with fewer than two finite losses counts as the highest. The losses of a step must be recorded once: who
    scores a batch twice with gradients on (two passes a step, a second criterion) sees no change at all.
    """

    def values(self, losses: Losses, epoch: int) -> npt.NDArray[np.float32]:
        """The changes."""
        known = losses.known & np.isfinite(losses.previous)
        unknown = np.full(len(losses), np.nan, np.float32)
        return np.subtract(losses.loss, losses.previous, out=unknown, where=known)
