"""Resolution over the run: the canvas side of every epoch, small first, whole last."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Literal

from mixloader.policies.policy import Run, check_choice, check_fraction

Growth = Literal["step", "ramp"]


@dataclass(frozen=True)
class Resolution:
    """How canvases grow.

    Attributes:
        side: of the first canvases, relative to `image_size`; every side is rounded to the stride.
        growth: `step`, from the first side to whole at once; `ramp`, evenly.
        end: the part of the run, at its end, that is whole in any case; at least one epoch.
    """

    side: float = 0.5
    growth: Growth = "step"
    end: float = 0.125

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        check_resolution(self)

    def end_epochs(self, epochs: int) -> int:
        """The number of epochs that are whole in any case."""
        return max(1, round(self.end * epochs))

    def sides(self, run: Run, until: float) -> tuple[int, ...]:
        """The canvas side of every epoch, pixels: grown to `image_size` when `until` of the run is over."""
        epochs = run.epochs or 1
        growing = min(round(until * epochs), epochs - self.end_epochs(epochs))
        sides = []
        for epoch in range(growing):
            grown = (epoch + 0.5) / (until * epochs) if self.growth == "ramp" else 0.0
            sides.append(run.canvas(self.side + (1 - self.side) * grown))
        return tuple(sides) + (run.image_size,) * (epochs - growing)

    def fit(self, run: Run, passes: float, canvases: tuple[int, ...]) -> tuple[int, ...] | None:
        """The canvas side of every epoch such that a run costs at most `passes`, and as little below as can be.

        Canvases stay small for as long as that needs; what is left over then makes the last small ones larger.

        Args:
            run: the fixed facts of the run.
            passes: whole-image passes of one batch of every epoch together.
            canvases: canvases of a batch, for every epoch.

        Returns:
            pixels, one an epoch; None where even the smallest canvases cost more.
        """
        fewest = bisect_left(  # the more of the run is small, the less it costs
            range(self._candidates(run)),
            True,
            key=lambda number: _passes(run, self._candidate(run, number), canvases) <= passes + 1e-9,
        )
        if fewest == self._candidates(run):
            return None
        return _grown(run, self._candidate(run, fewest), passes, canvases)

    def _candidates(self, run: Run) -> int:
        return 8 * (run.epochs or 1) * (4 if self.growth == "ramp" else 1) + 2

    def _candidate(self, run: Run, number: int) -> tuple[int, ...]:
        """From all whole to as small as can be; a ramp that would end after the run stays unfinished."""
        if number == self._candidates(run) - 1:  # what no ramp reaches
            return replace(self, growth="step").sides(run, 1.0)
        return self.sides(run, number / (8 * (run.epochs or 1)))


def _passes(run: Run, sides: tuple[int, ...], canvases: tuple[int, ...]) -> float:
    return sum(run.area(side) * count for side, count in zip(sides, canvases, strict=True))


def _grown(run: Run, sides: tuple[int, ...], passes: float, canvases: tuple[int, ...]) -> tuple[int, ...]:
    """Spend what is left on the sides, the last ones first: none of them may exceed the next one's."""
    grown = list(sides)
    left, limit = passes - _passes(run, sides, canvases) + 1e-9, run.image_size
    for epoch in reversed(range(len(grown))):
        while grown[epoch] < limit:
            cost = (run.area(grown[epoch] + run.stride) - run.area(grown[epoch])) * canvases[epoch]
            if cost > left:
                break
            grown[epoch] += run.stride
            left -= cost
        limit = grown[epoch]
    return tuple(grown)


def check_resolution(policy: object) -> None:
    """Refuse a `Resolution`, or a policy with its parameters, where one of `side`, `growth` and `end` cannot be.

    Raises:
        MixloaderError: one is out of its range.
    """
    check_fraction(policy, "side", above=0.01)
    check_fraction(policy, "end")
    check_choice(policy, "growth", Growth)
