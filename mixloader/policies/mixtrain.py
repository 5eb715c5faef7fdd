"""MixTrain: one budget, spent on small images early, shared canvases in the middle and whole ones at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Run, check_fraction, even
from mixloader.policies.progressive import small_budget, small_packed
from mixloader.policies.scores import ByLoss, ascending


@dataclass(frozen=True)
class MixTrain:
    """Fill a budget of 1 / `speedup` of plain training's passes, exactly, over the run.

    The run has three parts. Early, every sample is drawn small. In the middle, the samples with the lowest losses
    share a canvas in pairs, in which the harder one gets the larger part; the hardest of all keep whole canvases. At
    the end all are whole, because the network is used on whole images. Small epochs are taken first, as far as
    `early` lets them go; the shared canvases make up the rest of the budget, the same part in every middle epoch. The
    cost is at most the budget, and less than one canvas a batch below it over the whole run; only in a run of a few
    epochs, which can fall between two numbers of small ones, it may be lower.

    The idea is MixTrain's (Krithivasan et al., Frontiers in Artificial Intelligence 7:1387936, 2024); its formulas
    are not at hand, and every one here is this project's own.

    Attributes:
        speedup: passes of plain training / passes of this run.
        early: the largest part of the run that is drawn small.
        side: side of the small images relative to `image_size`, rounded to the stride. Not used when packed.
        packed: draw the small images four to a canvas: for networks that need one input size.
        end: the part of the run, at its end, that is whole; at least one epoch.
        mixed: the largest part of the samples that shares a canvas in a middle epoch.
        spread: how far area follows loss: the shares asked for run from 1/2 - spread (the easiest of those that share)
            to 1/2 + spread (the hardest). The upper half of a batch's sharers is matched with the lower half, in order,
            so the harder of any pair gets about 1/2 + spread/2 of the canvas, before borders are rounded.
    """

    speedup: float = 1.8
    early: float = 0.5
    side: float = 0.5
    packed: bool = False
    end: float = 0.125
    mixed: float = 1.0
    spread: float = 1 / 6

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        if not isinstance(self.speedup, int | float) or not 1 <= self.speedup < float("inf"):
            raise MixloaderError(f"MixTrain: speedup must be a number of at least 1, got {self.speedup!r}")
        for name in ("early", "end", "mixed"):
            check_fraction(self, name)
        check_fraction(self, "side", above=0.01)
        check_fraction(self, "spread", below=0.2)

    def budget(self, run: Run, epoch: int) -> Budget:
        """One epoch of the schedule."""
        return _schedule(self, run)[epoch]

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """Everyone small, or the lowest losses in pairs, or everyone whole."""
        budget = self.budget(run, epoch)
        if epoch < _small_epochs(self, run):
            return small_packed(run) if self.packed else even(run, budget.canvas_size)
        paired = 2 * (run.batch_size - budget.canvases) / run.batch_size
        easiest = ascending(ByLoss().needs(losses, epoch, rng), rng)[: round(paired * run.samples)]
        allocation = even(run, run.image_size)
        share = allocation.share.copy()
        share[easiest] = np.linspace(0.5 - self.spread, 0.5 + self.spread, len(easiest), dtype=np.float32)
        return replace(allocation, share=share)


@lru_cache(maxsize=64)
def _schedule(policy: MixTrain, run: Run) -> tuple[Budget, ...]:
    """The budget of every epoch: their sum is the run's."""
    epochs, size = run.length(policy), run.batch_size
    small_epochs, end = _small_epochs(policy, run), _end_epochs(policy, epochs)
    small = small_budget(run, policy.side, packed=policy.packed)
    middle = epochs - small_epochs - end
    left = size * epochs / policy.speedup - size * end - small_epochs * small.canvases * run.area(small.canvas_size)
    # Canvases are whole numbers: what one epoch leaves over, the next one spends (1e-9: float dust of the sum).
    spent = [min(size, left / middle) * k + 1e-9 for k in range(middle + 1)] if middle else []
    canvases = [int(b) - int(a) for a, b in pairwise(spent)]
    whole = Budget(run.image_size, size)
    return (small,) * small_epochs + tuple(replace(whole, canvases=c) for c in canvases) + (whole,) * end


@lru_cache(maxsize=64)
def _small_epochs(policy: MixTrain, run: Run) -> int:
    """How many epochs are drawn small, such that the middle ones can save the rest.

    Raises:
        MixloaderError: the run cannot save as much; the message says the largest speed-up that it can.
    """
    epochs, size = run.length(policy), run.batch_size
    small = small_budget(run, policy.side, packed=policy.packed)
    shares = run.image_size >= 2 * run.stride  # a canvas of one cell cannot be cut
    saved_small = size - small.canvases * run.area(small.canvas_size) if shares else 0
    saved_middle = int(policy.mixed * size / 2) if shares else 0
    open_epochs = epochs - _end_epochs(policy, epochs)
    most_small = min(round(policy.early * epochs), open_epochs)
    most = most_small * saved_small + (open_epochs - most_small) * saved_middle
    wanted = size * epochs * (1 - 1 / policy.speedup)
    if wanted > most + 1e-9 * size:
        largest = int(100 * size * epochs / (size * epochs - most)) / 100
        raise MixloaderError(
            f"MixTrain: speedup={policy.speedup:g} is impossible here; with {epochs} epochs, early={policy.early:g}, "
            f"end={policy.end:g} and mixed={policy.mixed:g} the largest possible is {largest:.2f}: ask for less, or "
            "change these"
        )
    if saved_small <= 0:
        return 0
    first = min(most_small, int(wanted / saved_small + 1e-9))
    for count in range(first, -1, -1):
        if wanted - count * saved_small <= (open_epochs - count) * saved_middle + 1e-9 * size:
            return count
    return first + 1  # between two whole numbers of small epochs with no middle to share: the cheaper one


def _end_epochs(policy: MixTrain, epochs: int) -> int:
    return max(1, round(policy.end * epochs))
