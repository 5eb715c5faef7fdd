"""Progressive resizing: little resolution early, whole images late."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Run, check_fraction, even


@dataclass(frozen=True)
class Progressive:
    """Small images for the first part of the run, whole ones for the rest.

    Attributes:
        until: the part of the run that trains on small images.
        side: their side relative to `image_size`, rounded to the stride. Not used when packed.
        packed: draw them four to a whole canvas instead of each on a small canvas: for networks that need one
            input size.
    """

    until: float = 0.5
    side: float = 0.5
    packed: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        check_fraction(self, "until")
        check_fraction(self, "side", above=0.01)

    def budget(self, run: Run, epoch: int) -> Budget:
        """A batch of small canvases, or a quarter as many whole ones; then whole ones."""
        if self.packed and run.batch_size > 1:
            run.check_shareable(self)
        if epoch >= round(self.until * run.length(self)):
            return Budget(run.image_size, run.batch_size)
        return small_budget(run, self.side, packed=self.packed)

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """The same share for all."""
        budget = self.budget(run, epoch)
        if budget.canvases < run.batch_size:
            return small_packed(run)
        return even(run, budget.canvas_size)


def small_budget(run: Run, side: float, *, packed: bool) -> Budget:
    """The batches of an epoch of small images: each on a small canvas, or packed four to a whole one."""
    if packed:
        return Budget(run.image_size, -(-run.batch_size // 4))
    return Budget(run.canvas(side), run.batch_size)


def small_packed(run: Run) -> Allocation:
    """A quarter of a whole canvas for everyone, showing all of the picture."""
    return replace(even(run, run.image_size, 1 / 4), view="scale")
