"""The loss itself: who has a low one needs less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.ledger import Losses
from mixloader.policies.scores.score import Ranked


@dataclass(frozen=True)
class ByLoss(Ranked):
    """The percentile of a sample's last recorded loss; one that is not known, or not finite, counts as the highest."""

    def values(self, losses: Losses, epoch: int) -> npt.NDArray[np.float32]:
        """The losses."""
        return np.where(losses.known, losses.loss, np.float32(np.nan))
