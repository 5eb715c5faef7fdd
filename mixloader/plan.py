"""The plan: one epoch's complete drawing instructions, and the only thing that passes from deciding to drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixloader.archive import load_arrays, save_arrays
from mixloader.errors import MixloaderError
from mixloader.policies.policy import LARGEST_COMPOSITE

_COLUMNS = {
    "canvas": (np.int64, ()),
    "slot": (np.int8, ()),
    "sample": (np.int64, ()),
    "region": (np.int16, (4,)),
    "window": (np.float32, (4,)),
    "flip": (np.bool_, ()),
    "weight": (np.float32, ()),
    "opacity": (np.float32, ()),
}


_MOST_PIXELS = np.iinfo(np.int16).max  # of a side: regions are int16
_MOST = 1 << 40  # canvases of an epoch: nothing that is counted by them overflows
_BRIGHTEST = 1.001  # what the opacities of a blend sum to at most: float32 parts of 1, rounded


@dataclass(frozen=True)
class Plan:
    """What to draw in one epoch; any backend must draw the same picture from it.

    One row for each constituent, in drawing order (M rows). Batch b draws the canvases from b * canvases_per_batch
    on; a canvas without rows is empty.

    Attributes:
        image_size: side of a whole canvas, pixels: what shares are relative to.
        canvas_size: side of this epoch's canvases, pixels.
        batches: number of batches.
        canvases_per_batch: canvases of each batch.
        canvas: int64 [M], counted through the epoch.
        slot: int8 [M], the constituent's place in its composite.
        sample: int64 [M], its id.
        region: int16 [M, 4], x0, y0, x1, y1 in canvas pixels.
        window: float32 [M, 4], x0, y0, x1, y1 as fractions of the upright source image. Edges are rounded to whole
            pixels (`pipelines.versions.pixel_boxes`); what they enclose is scaled alone, with an antialiased triangle
            filter.
        flip: bool [M], mirror left to right.
        weight: float32 [M], factor of its loss.
        opacity: float32 [M], 1; the rows of a blend share one region and their opacities sum to 1.
    """

    image_size: int
    canvas_size: int
    batches: int
    canvases_per_batch: int
    canvas: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int8]
    sample: npt.NDArray[np.int64]
    region: npt.NDArray[np.int16]
    window: npt.NDArray[np.float32]
    flip: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float32]
    opacity: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.sample)

    @property
    def canvases(self) -> int:
        """Canvases of the epoch, empty ones included."""
        return self.batches * self.canvases_per_batch

    @property
    def cost(self) -> float:
        """Whole-image passes of the epoch: canvases, empty ones included, times their area."""
        return self.canvases * (self.canvas_size / self.image_size) ** 2

    @property
    def shares(self) -> npt.NDArray[np.float32]:
        """Float32 [M]: the pixels of each row's region, by its opacity, relative to image_size²."""
        x0, y0, x1, y1 = self.region.T.astype(np.float64)
        pixels = (x1 - x0) * (y1 - y0) * self.opacity
        return np.asarray(pixels / self.image_size**2, np.float32)

    @property
    def covered(self) -> bool:
        """Whether the regions cover every pixel of every canvas: always, but for empty canvases."""
        x0, y0, x1, y1 = self.region.T.astype(np.float64)
        pixels = np.bincount(self.canvas, (x1 - x0) * (y1 - y0) * self.opacity, minlength=self.canvases)
        return bool((pixels > self.canvas_size**2 - 0.5).all())

    def batch(self, b: int) -> Plan:
        """The plan of batch b alone, with its canvases counted from 0.

        Raises:
            IndexError: there is no such batch.
        """
        if not 0 <= b < self.batches:
            raise IndexError(f"batch {b} of a plan of {self.batches} batches")
        first = b * self.canvases_per_batch
        start, stop = np.searchsorted(self.canvas, (first, first + self.canvases_per_batch))
        columns = {name: getattr(self, name)[start:stop] for name in _COLUMNS}
        columns["canvas"] = columns["canvas"] - first
        return replace(self, batches=1, **columns)

    def take(self, canvases: npt.NDArray[np.int64]) -> Plan:
        """The plan of these canvases (int64 [C]) alone, in this order and counted from 0, as one batch.

        Raises:
            IndexError: there is no such canvas.
        """
        for outside in canvases[(canvases < 0) | (canvases >= self.canvases)]:
            raise IndexError(f"canvas {outside} of a plan of {self.canvases} canvases")
        starts, stops = (np.searchsorted(self.canvas, canvases, side) for side in ("left", "right"))
        rows = np.array([row for pair in zip(starts, stops, strict=True) for row in range(*pair)], np.int64)
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        columns["canvas"] = np.repeat(np.arange(len(canvases)), stops - starts)
        return replace(self, batches=1, canvases_per_batch=len(canvases), **columns)

    @classmethod
    def join(cls, plans: Sequence[Plan]) -> Plan:
        """The batches of these plans, at least one, after one another; all have as many canvases, of one size."""
        columns: dict[str, Any] = {name: np.concatenate([getattr(plan, name) for plan in plans]) for name in _COLUMNS}
        before = np.cumsum([0, *(plan.canvases for plan in plans[:-1])])
        columns["canvas"] = columns["canvas"] + np.repeat(before, [len(plan) for plan in plans])
        return replace(plans[0], batches=sum(plan.batches for plan in plans), **columns)

    def without(self, rows: npt.NDArray[np.bool_]) -> Plan:
        """The same plan with these rows (bool [M]) taken out: their places stay empty."""
        return replace(self, **{name: getattr(self, name)[~rows] for name in _COLUMNS})

    def check(self) -> None:
        """Refuse columns of a wrong type or shape, rows that cannot be drawn, and rows that cannot share a canvas.

        Raises:
            MixloaderError: naming the column, and the row where one is at fault.
        """
        rows = self.sample.size
        for name, (dtype, shape) in _COLUMNS.items():
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != (rows, *shape):
                raise MixloaderError(
                    f"plan column {name} is {column.dtype}{list(column.shape)}; it must be "
                    f"{np.dtype(dtype)}{[rows, *shape]}"
                )
        sides, counts = (self.image_size, self.canvas_size), (self.batches, self.canvases_per_batch, self.canvases)
        if not all(0 < side <= _MOST_PIXELS for side in sides) or not all(0 <= count <= _MOST for count in counts):
            raise MixloaderError(
                f"plan of {self.batches} batches x {self.canvases_per_batch} canvases of {self.canvas_size} px "
                f"(image_size {self.image_size}): sizes must be positive, and at most {_MOST_PIXELS} px and "
                f"{_MOST:,} canvases"
            )
        self._check_rows()
        self._check_composites()

    def _check_rows(self) -> None:
        """Refuse rows that cannot be drawn, whatever the others are."""
        faults = {
            "canvas": (self.canvas < 0) | (self.canvas >= self.canvases) | (np.diff(self.canvas, prepend=0) < 0),
            "slot": (self.slot < 0) | (self.slot >= LARGEST_COMPOSITE),
            "sample": self.sample < 0,
            "region": _outside(self.region, self.canvas_size),
            "window": _outside(self.window, 1.0),
            "weight": ~(np.isfinite(self.weight) & (self.weight >= 0)),
            "opacity": ~((self.opacity > 0) & (self.opacity <= 1)),
        }
        for name, bad in faults.items():
            if bad.any():
                row = int(np.argmax(bad))
                raise MixloaderError(f"plan row {row}: {name} {getattr(self, name)[row]} cannot be drawn")

    def _check_composites(self) -> None:
        """Refuse rows that cannot share their canvas. Of five rows of a canvas, two have the same slot."""
        opaque = self.opacity == 1
        for apart in range(1, LARGEST_COMPOSITE + 1):
            one = np.flatnonzero(self.canvas[apart:] == self.canvas[:-apart])
            other = one + apart
            same = (self.region[one] == self.region[other]).all(axis=1)
            faults = {
                "slot": self.slot[one] == self.slot[other],
                "region": opaque[one] & opaque[other] & _overlap(self.region[one], self.region[other]),
                "opacity": ~(opaque[one] & opaque[other] | ~opaque[one] & ~opaque[other] & same),
            }
            for name, bad in faults.items():
                if bad.any():
                    row = int(one[np.argmax(bad)])
                    raise MixloaderError(
                        f"plan rows {row} and {row + apart}: {name} {getattr(self, name)[row]} and "
                        f"{getattr(self, name)[row + apart]} cannot share canvas {self.canvas[row]}"
                    )
        first = np.flatnonzero(np.diff(self.canvas, prepend=-1))
        total = np.add.reduceat(self.opacity, first) if first.size else self.opacity
        for start in first[(total > _BRIGHTEST) & ~opaque[first]][:1]:
            raise MixloaderError(f"plan canvas {self.canvas[start]}: the opacities of its rows sum to more than 1")

    def save(self, path: str | Path) -> None:
        """Write the plan as `.npz`."""
        save_arrays(path, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            MixloaderError: the file is no plan, or holds one that cannot be drawn.
        """
        values: dict[str, Any] = load_arrays(path, [field.name for field in fields(cls)], "plan", "Plan.save")
        try:
            values |= {name: _whole_number(name, value) for name, value in values.items() if name not in _COLUMNS}
            plan = cls(**values)
            plan.check()
        except MixloaderError as error:
            raise MixloaderError(f"{path} holds no plan that can be drawn: {error}") from None
        return plan


def _whole_number(name: str, value: npt.NDArray[Any]) -> int:
    if value.shape != () or value.dtype.kind not in "iu":
        raise MixloaderError(f"{name} is {value.dtype}{list(value.shape)}; it must be a whole number")
    return int(value)


def _overlap(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Bool [P]: the pairs of boxes, int16 [P, 4] each, that have a pixel in common."""
    start, stop = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    return np.asarray((start < stop).all(axis=1))


def _outside(box: npt.NDArray[np.int16] | npt.NDArray[np.float32], limit: float) -> npt.NDArray[np.bool_]:
    """Bool [M]: the boxes (x0, y0, x1, y1) that are empty or reach out of [0, limit]."""
    x0, y0, x1, y1 = box.T
    return np.asarray(~((x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= limit) & (y1 <= limit)))
