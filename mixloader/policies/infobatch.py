"""InfoBatch, the rival: prune easy samples at random and weight the kept ones up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Run, check_fraction, even


@dataclass(frozen=True)
class InfoBatch:
    """Drop a random part of the samples whose loss is below the mean; the kept ones of them weigh 1 / (1 - prune).

    As published (Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR
    2024): prune = 1/2, weight 2, and the full data for the first epoch and the last eighth of the run. The cost
    follows the losses, so it is not known before the run. One difference: here the number of steps never changes,
    so pruned samples make the steps smaller instead of fewer, and the weighted mean of a step takes the place of
    their rescaled sum. Both estimate the mean loss over all the data.

    Attributes:
        prune: the part of the below-mean samples that is dropped.
        full: the part of the run, at its end, that trains on everything.
    """

    prune: float = 0.5
    full: float = 0.125

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        check_fraction(self, "prune", below=0.99)
        check_fraction(self, "full")

    def budget(self, run: Run, epoch: int) -> Budget | None:
        """Known for the full epochs only: the first, and those at the end."""
        if self._is_full(run, epoch):
            return Budget(run.image_size, run.batch_size)
        return None

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """Zero for the dropped, 1 for the others."""
        everything = even(run, run.image_size)
        known = losses.known
        if self._is_full(run, epoch) or not known.any():
            return everything
        easy = known & (np.where(known, losses.loss, np.inf) < losses.loss[known].mean(dtype=np.float64))
        dropped = easy & (rng.random(run.samples) < self.prune)
        share = np.where(dropped, np.float32(0), everything.share)
        weight = np.where(easy, np.float32(1 / (1 - self.prune)), everything.weight)
        return replace(everything, share=share, weight=weight)

    def _is_full(self, run: Run, epoch: int) -> bool:
        epochs = run.length(self)
        return epoch == 0 or epoch >= epochs - math.ceil(self.full * epochs)
