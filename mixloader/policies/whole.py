"""Plain training: every sample on a canvas of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Run, even


@dataclass(frozen=True)
class Whole:
    """A whole canvas for every sample, every epoch: what a plain `DataLoader` does."""

    def budget(self, run: Run, epoch: int) -> Budget:
        """As many whole canvases as a batch has samples."""
        return Budget(run.image_size, run.batch_size)

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """All ones."""
        return even(run, run.image_size)
