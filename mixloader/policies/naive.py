"""Naive mixing: everything in pairs, whatever the losses say. A baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Mixing, Run, View, check_choice, even


@dataclass(frozen=True)
class Naive:
    """Every sample shares a canvas with one other, chosen at random, every epoch.

    Attributes:
        mixing: `spatial` (side by side, as in CutMix) or `blend` (over each other, as in mixup).
        view: what a region shows: `crop` or `scale`; see `Allocation`.
    """

    mixing: Mixing = "spatial"
    view: View = "crop"

    def __post_init__(self) -> None:
        """Refuse unknown modes."""
        check_choice(self, "mixing", Mixing)
        check_choice(self, "view", View)

    def budget(self, run: Run, epoch: int) -> Budget:
        """Half as many canvases as samples; one more when the batch size is odd."""
        if self.mixing == "spatial" and run.batch_size > 1:
            run.check_shareable(self)
        return Budget(run.image_size, (run.batch_size + 1) // 2)

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """All halves."""
        return replace(even(run, run.image_size, 1 / 2), mixing=self.mixing, view=self.view)
