"""The ladder: who needs least climbs down first, from a whole canvas to a half, a quarter, or none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.order import Ids
from mixloader.policies.policy import check_fraction


@dataclass(frozen=True)
class Ladder:
    """The largest part of the samples that each rung takes; the others keep whole canvases.

    It is filled from below: the samples that need least sit out, up to `drop` of all, the next share a canvas in
    fours, up to `quarter`, and the next in pairs, up to `half`; only as far as the budget asks for.

    Attributes:
        drop: sit out this epoch: share 0.
        quarter: four to a canvas: share 1/4.
        half: two to a canvas: share 1/2.
        spread: how far area follows need within pairs: their shares run from 1/2 - spread (who needs least) to
            1/2 + spread.
    """

    drop: float = 0.75
    quarter: float = 0.0
    half: float = 0.0
    spread: float = 1 / 6

    def __post_init__(self) -> None:
        """Refuse parts that are none, or more than all together."""
        for name in ("drop", "quarter", "half"):
            check_fraction(self, name)
        check_fraction(self, "spread", below=0.2)
        if self.drop + self.quarter + self.half > 1 + 1e-9:
            raise MixloaderError(
                f"Ladder: drop={self.drop:g}, quarter={self.quarter:g} and half={self.half:g} are more than all samples"
            )

    @property
    def least(self) -> float:
        """The mean share when every rung is full: the smallest that can be asked for."""
        return 1 - self.drop - 3 / 4 * self.quarter - self.half / 2

    @property
    def shares_canvases(self) -> bool:
        """Whether any rung cuts a canvas."""
        return self.quarter > 0 or self.half > 0

    def shares(self, order: Ids, mean: float) -> npt.NDArray[np.float32]:
        """The share of every sample.

        Args:
            order: uint32 [N], the ids; the first ones climb down first.
            mean: the mean share, `least` to 1.

        Returns:
            float32 [N], of a whole canvas.
        """
        count = len(order)
        saving = (1 - mean) * count
        rungs = []
        for limit, saved in ((self.drop, 1.0), (self.quarter, 3 / 4), (self.half, 1 / 2)):
            wanted = min(limit * count, saving / saved)
            # Rounded up where no rung shares canvases: with one sample too many, a batch would have to.
            taken = round(wanted) if self.shares_canvases else math.ceil(wanted - 1e-6)
            saving = max(saving - taken * saved, 0.0)
            rungs.append(taken)
        dropped, quartered, halved = rungs
        share = np.ones(count, np.float32)
        share[order[:dropped]] = 0
        share[order[dropped : dropped + quartered]] = 1 / 4
        pairs = order[dropped + quartered :][:halved]
        share[pairs] = np.linspace(0.5 - self.spread, 0.5 + self.spread, len(pairs), dtype=np.float32)
        return share
