"""Progressive resizing, the rival: little resolution early, whole images late."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.policies.policy import Allocation, Budget, Run, View, check_choice, check_fraction, even
from mixloader.policies.resolution import Growth, Resolution, check_resolution
from mixloader.policies.spending import check_speedup


@dataclass(frozen=True)
class Progressive:
    """Small images for the first part of the run, whole ones for the rest; all samples alike.

    Attributes:
        until: the part of the run in which canvases are small, or grow. Not used with a speedup.
        side: side of the first canvases relative to `image_size`, rounded to the stride. Not used when packed.
        growth: `step`, from small to whole at once; `ramp`, evenly.
        view: what a small canvas shows: `scale`, all of the picture, smaller; `crop`, a part of it at full scale.
        packed: draw small images four to a whole canvas instead of each on a small canvas: for networks that need
            one input size.
        end: the part of the run, at its end, that is whole in any case; at least one epoch.
        speedup: passes of plain training / passes of this run: canvases stay small for as long as that needs; None
            goes by `until`.
    """

    until: float = 0.5
    side: float = 0.5
    growth: Growth = "step"
    view: View = "scale"
    packed: bool = False
    end: float = 0.125
    speedup: float | None = None

    def __post_init__(self) -> None:
        """Refuse parameters outside their range."""
        check_fraction(self, "until")
        check_resolution(self)
        check_choice(self, "view", View)
        if self.speedup is not None:
            check_speedup(self)
        if self.packed and self.growth != "step":
            raise MixloaderError("Progressive: packed images have one size, a quarter: growth='step' only")

    def budget(self, run: Run, epoch: int) -> Budget:
        """A batch of canvases of one size, or of quarters packed on whole ones; then whole ones."""
        if self.packed and run.batch_size > 1:
            run.check_shareable(self)
        return _schedule(self, run)[epoch]

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        """The same share for all."""
        budget = self.budget(run, epoch)
        share = 1 / 4 if budget.canvases < run.batch_size else 1
        return replace(even(run, budget.canvas_size, share), view=self.view)

    def _resolution(self) -> Resolution:
        return Resolution(self.side, self.growth, self.end)


@lru_cache(maxsize=64)
def _schedule(policy: Progressive, run: Run) -> tuple[Budget, ...]:
    """The budget of every epoch.

    Raises:
        MixloaderError: the run cannot save as much as the speedup asks for.
    """
    epochs, size = run.length(policy), run.batch_size
    end = policy._resolution().end_epochs(epochs)
    if policy.packed:
        quarter, whole = Budget(run.image_size, -(-size // 4)), Budget(run.image_size, size)
        small = round(policy.until * epochs)
        if policy.speedup is not None:
            saved, wanted = size - quarter.canvases, epochs * size * (1 - 1 / policy.speedup)
            most = (epochs - end) * saved
            _check(wanted <= most + 1e-6, policy, epochs * size / (epochs * size - most))
            small = math.ceil((wanted - 1e-6) / saved) if saved else 0
        small = min(small, epochs - end)
        return (quarter,) * small + (whole,) * (epochs - small)
    resolution, canvases = policy._resolution(), (size,) * epochs
    if policy.speedup is None:
        sides = resolution.sides(run, policy.until)
    else:
        fitted = resolution.fit(run, size * epochs / policy.speedup, canvases)
        smallest = replace(resolution, growth="step").sides(run, 1.0)
        _check(fitted is not None, policy, epochs / sum(map(run.area, smallest)))
        sides = fitted or smallest
    return tuple(Budget(side, size) for side in sides)


def _check(possible: bool, policy: Progressive, most: float) -> None:
    if not possible:
        raise MixloaderError(
            f"Progressive: speedup={policy.speedup:g} is impossible here; the largest possible is about "
            f"{int(100 * most) / 100:.2f}: ask for less, or for a smaller side= or end="
        )
