"""Selective backprop, the rival: a sample is drawn with a chance that rises with its loss."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Run, check_fraction, even
from mixloader.policies.scores import ByLoss
from mixloader.policies.spending import check_speedup, spend


@dataclass(frozen=True)
class SelectiveBackprop:
    """Who trains in an epoch is drawn by lot, with a weight of (percentile of the loss) ** `beta`.

    After Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019, who draw by the loss of a
    forward pass just made. Here the ledger's loss takes its place, which costs no pass, and exactly as many samples
    are drawn as the budget allows. Losses are not weighted up: the bias towards the hard ones is the method.

    Attributes:
        speedup: passes of plain training / passes of this run.
        beta: how strongly the chance follows the loss; 0 is chance alone.
        full: the part of the run, at its end, that trains on everything. The first epoch does too.
    """

    speedup: float = 1.8
    beta: float = 1.0
    full: float = 0.0

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        check_speedup(self)
        check_fraction(self, "full")
        if not isinstance(self.beta, int | float) or not 0 <= self.beta < float("inf"):
            raise MixloaderError(f"SelectiveBackprop: beta must be a number of at least 0, got {self.beta!r}")

    def budget(self, run: Run, epoch: int) -> Budget:
        """A canvas for everyone who trains."""
        last = round(self.full * run.length(self))
        return Budget(run.image_size, spend(self, run, self.speedup, whole_first=1, whole_last=last)[epoch])

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """1 for the drawn, 0 for the others."""
        everything = even(run, run.image_size)
        kept = max(1, self.budget(run, epoch).canvases * run.samples // run.batch_size)
        weight = np.maximum(ByLoss().needs(losses, epoch, rng), 1 / run.samples) ** self.beta
        # Drawing without replacement: the smallest of exponential waiting times at these rates.
        drawn = np.argsort(rng.exponential(size=run.samples) / weight)[:kept]
        share = np.zeros(run.samples, np.float32)
        share[drawn] = 1
        return replace(everything, share=share)
