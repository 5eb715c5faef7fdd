"""MixTrain: one budget, spent by need: on smaller canvases early, on fewer and shared ones for whom needs least."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain

import numpy as np

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.policies.ladder import Ladder
from mixloader.policies.policy import (
    Allocation,
    Budget,
    Pairing,
    Run,
    View,
    check_choice,
    check_fraction,
    even,
)
from mixloader.policies.resolution import Resolution
from mixloader.policies.scores import ByLoss, Score, by_need
from mixloader.policies.spending import check_speedup


@dataclass(frozen=True)
class MixTrain:
    """Fill a budget of 1 / `speedup` of plain training's passes over the run.

    Savings come from two sides. *Resolution*: canvases are small early, for as long as its part of the savings needs;
    the last ones are large, because the network is used on whole images. *Selection*: in every epoch but the first,
    which has no losses to go by, the samples that need least, by their losses, climb down the ladder: they sit out, or
    share a canvas. The cost is at most the budget, and less than one canvas a batch below it
    over the whole run; where resolution alone saves it all, less than a stride's growth of one epoch's canvases.

    What won on validation data, and what it gave on test data at half of plain training's passes, as a part of the gap
    between plain training with half the epochs (0) and full (1), small residual networks, three seeds
    (docs/results.md): the defaults on the 64-pixel units, 1.23 ± 0.36, where progressive resizing gave 0.49 ± 0.24 at
    best and all in pairs, always, 1.97 ± 0.53; on Fashion-MNIST, where only the whole object tells the class,
    `selection=0.75, resolution=Resolution(side=0.7)`, 1.23 ± 0.17, where no rival gave more than 0.74 ± 0.09.

    The idea is MixTrain's (Krithivasan et al., Frontiers in Artificial Intelligence 7:1387936, 2024); its formulas
    are not at hand, and every one here is this project's own.

    Attributes:
        speedup: passes of plain training / passes of this run.
        selection: the part of the savings that selection makes, 0 to 1; the rest is resolution's.
        resolution: how canvases grow, and how long the end is whole.
        view: what a small canvas or a region shows: `crop`, a part of the picture at full scale; `scale`, all of it.
        ladder: what they get who need least.
        score: who needs least.
        pairing: who shares a canvas with whom; see `Allocation`.
    """

    speedup: float = 1.8
    selection: float = 0.1
    resolution: Resolution = field(default_factory=Resolution)
    view: View = "crop"
    ladder: Ladder = field(default_factory=Ladder)
    score: Score = field(default_factory=ByLoss)
    pairing: Pairing = "opposite"

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        check_speedup(self)
        check_fraction(self, "selection")
        check_choice(self, "view", View)
        check_choice(self, "pairing", Pairing)
        for name, kind in (("resolution", Resolution), ("ladder", Ladder), ("score", Score)):
            value = getattr(self, name)
            if isinstance(value, type) or not isinstance(value, kind):
                raise MixloaderError(
                    f"MixTrain: {name} must be a {kind.__name__}, such as {kind.__name__}(), got {value!r}"
                )

    def budget(self, run: Run, epoch: int) -> Budget:
        """One epoch of the schedule."""
        return _schedule(self, run)[epoch]

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """As many as the budget has canvases for, by need, all at the epoch's size."""
        budget = self.budget(run, epoch)
        allocation = replace(even(run, budget.canvas_size), view=self.view, pairing=self.pairing)
        if budget.canvases == run.batch_size:
            return allocation
        order = by_need(self.score, losses, epoch, rng)
        share = self.ladder.shares(order, budget.canvases / run.batch_size)
        share *= np.float32(run.area(budget.canvas_size))
        return replace(allocation, share=share)


_TRIES = 20


@lru_cache(maxsize=64)
def _schedule(policy: MixTrain, run: Run) -> tuple[Budget, ...]:
    """The budget of every epoch. Where the ladder is too short for its part, resolution takes over the rest.

    Raises:
        MixloaderError: the run cannot save as much.
    """
    epochs = run.length(policy)
    if policy.ladder.shares_canvases:
        run.check_shareable(policy)
    fitted = (_sides(policy, run, policy.selection * (1 - step / _TRIES)) for step in range(_TRIES + 1))
    for sides in chain(fitted, (_smallest(policy, run),)):
        canvases = _canvases(policy, run, sides)
        if canvases is not None:
            return tuple(Budget(side, count) for side, count in zip(sides, canvases, strict=True))
    raise MixloaderError(
        f"MixTrain: speedup={policy.speedup:g} is impossible here; with {epochs} epochs, the last "
        f"{policy.resolution.end_epochs(epochs)} of them at full size, sides from {policy.resolution.side:g} on and "
        f"this ladder, the largest possible is about {_largest(policy, run):.2f}: ask for less, or change these"
    )


def _largest(policy: MixTrain, run: Run) -> float:
    """The largest speed-up that the run allows, rounded down to 1/100."""
    areas = [run.area(side) for side in _smallest(policy, run)]
    passes = areas[0] + sum(areas[1:]) * _least_canvases(policy, run) / run.batch_size
    return int(100 * len(areas) / passes) / 100


def _smallest(policy: MixTrain, run: Run) -> tuple[int, ...]:
    """The sides of a run that is small for as long as can be; what is cut has two cells a side at least."""
    least = 2 * run.stride if policy.ladder.shares_canvases else run.stride
    return tuple(max(side, least) for side in replace(policy.resolution, growth="step").sides(run, 1.0))


def _least_canvases(policy: MixTrain, run: Run) -> int:
    """The fewest canvases of a batch: as the ladder has it, and one at least."""
    return max(1, math.ceil(policy.ladder.least * run.batch_size - 1e-6))


def _sides(policy: MixTrain, run: Run, selection: float) -> tuple[int, ...]:
    """The canvas side of every epoch such that resolution alone makes its part of the savings, or all that it can."""
    plain = run.batch_size * (run.epochs or 1)
    savings = plain * (1 - 1 / policy.speedup) * (1 - selection)
    everyone = (run.batch_size,) * (run.epochs or 1)
    fitted = policy.resolution.fit(run, plain - savings, everyone)
    smallest = _smallest(policy, run)
    return tuple(map(max, fitted, smallest[:1] * len(fitted))) if fitted else smallest


def _canvases(policy: MixTrain, run: Run, sides: tuple[int, ...]) -> list[int] | None:
    """The canvases of a batch of every epoch such that the ladder makes up the rest; None where it is too short.

    Canvases are whole numbers: what one epoch leaves over, weighed by its area, the next one spends.
    """
    size, areas = run.batch_size, [run.area(side) for side in sides]
    canvases = [size] * len(sides)
    left = size * (len(sides) / policy.speedup - areas[0])  # the first epoch has no losses to choose by
    if left >= size * sum(areas[1:]) - 1e-6:
        return canvases
    least = _least_canvases(policy, run)
    if left < least * sum(areas[1:]) - 1e-6 or len(sides) < 2:
        return None
    due = 0.0
    for epoch in range(1, len(sides)):
        due += left * areas[epoch] / sum(areas[1:])
        canvases[epoch] = max(least, int(due / areas[epoch] + 1e-9))
        due -= canvases[epoch] * areas[epoch]
    return canvases
