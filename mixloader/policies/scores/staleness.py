"""How long ago a sample was seen whole: who waited longest needs most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.ledger import Losses
from mixloader.policies.scores.score import Ranked


@dataclass(frozen=True)
class ByStaleness(Ranked):
    """The percentile of the epochs since a sample had a whole canvas; who never had one counts as the longest."""

    def values(self, losses: Losses, epoch: int) -> npt.NDArray[np.float32]:
        """The epochs."""
        return (epoch - losses.whole).astype(np.float32)
