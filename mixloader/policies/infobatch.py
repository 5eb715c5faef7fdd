"""InfoBatch, the rival: prune easy samples at random and weight the kept ones up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Run, check_fraction, even
from mixloader.policies.scores import ascending
from mixloader.policies.spending import check_speedup, spend

_MOST = 0.95  # of the easy samples that a named speedup may prune: the others of them then weigh 20


@dataclass(frozen=True)
class InfoBatch:
    """Drop a random part of the samples whose loss is below the mean; the kept ones of them weigh 1 / (1 - prune).

    As published (Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR
    2024): prune = 1/2, weight 2, and the full data for the first epoch and the last eighth of the run. The cost
    follows the losses, so it is not known before the run. One difference: here the number of steps never changes,
    so pruned samples make the steps smaller instead of fewer, and the weighted mean of a step takes the place of
    their rescaled sum. Both estimate the mean loss over all the data.

    With `speedup` it is brought to a cost, for comparisons: every epoch prunes as large a part of the easy samples
    as that asks for, with weights to match; where they are too few, the next higher losses count as easy.

    Attributes:
        prune: the part of the below-mean samples that is dropped. Not used with a speedup.
        full: the part of the run, at its end, that trains on everything.
        speedup: passes of plain training / passes of this run; None lets the losses decide.
    """

    prune: float = 0.5
    full: float = 0.125
    speedup: float | None = None

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        check_fraction(self, "prune", below=0.99)
        check_fraction(self, "full")
        if self.speedup is not None:
            check_speedup(self)

    def budget(self, run: Run, epoch: int) -> Budget | None:
        """Known for the full epochs, the first and those at the end, and for all with a speedup."""
        if self.speedup is not None:
            return Budget(run.image_size, self._kept(run, self.speedup)[epoch])
        if self._is_full(run, epoch):
            return Budget(run.image_size, run.batch_size)
        return None

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """Zero for the dropped, 1 for the others."""
        everything = even(run, run.image_size)
        if self._is_full(run, epoch):
            return everything
        loss, known = np.where(losses.known, losses.loss, np.inf), losses.known
        easy = known & (loss < loss[known].mean(dtype=np.float64)) if known.any() else known
        dropped, prune = easy & (rng.random(run.samples) < self.prune), self.prune
        if self.speedup is not None:
            count = run.samples - max(1, self._kept(run, self.speedup)[epoch] * run.samples // run.batch_size)
            pool = ascending(loss, rng)[: max(int(easy.sum()), math.ceil(count / _MOST))]
            easy, dropped = np.zeros((2, run.samples), np.bool_)
            easy[pool], dropped[rng.choice(pool, count, replace=False)] = True, True
            prune = count / max(len(pool), 1)
        share = np.where(dropped, np.float32(0), everything.share)
        weight = np.where(easy, np.float32(1 / (1 - prune)), everything.weight)
        return replace(everything, share=share, weight=weight)

    def _is_full(self, run: Run, epoch: int) -> bool:
        epochs = run.length(self)
        return epoch == 0 or epoch >= epochs - self._full_epochs(epochs)

    def _full_epochs(self, epochs: int) -> int:
        return math.ceil(self.full * epochs)

    def _kept(self, run: Run, speedup: float) -> list[int]:
        """How many samples of a batch every epoch keeps."""
        return spend(self, run, speedup, whole_first=1, whole_last=self._full_epochs(run.length(self)))
