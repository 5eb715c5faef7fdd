"""The feed: a batch of a plan as the flat inputs of the DALI graph, one entry for every constituent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mixloader.plan import Plan

PLACEHOLDER = b"P6 1 1 255 \x00\x00\x00"
"""One black pixel: what the rows decode that only stand there because DALI draws as many sheets as images."""


@dataclass(frozen=True)
class Feed:
    """The inputs of one run, of R rows, at least as many as sheets.

    What differs in length from row to row is a list of arrays; the rest is one array, which DALI takes faster.

    Attributes:
        data: R times uint8 [bytes], the encoded image.
        size: float32 [R, 2], height and width of its region, pixels.
        start: int32 [R, 2], y0 and x0 of its window, pixels.
        end: int32 [R, 2], y1 and x1.
        first: float32 [R, 2], the edges that are scaled to the region's first ones, fractions of the window: above, and
            left, or right to mirror.
        last: float32 [R, 2], the opposite edges.
        paste: R times int32 [n], the rows that are pasted on the sheet of this number, n >= 0.
        anchor: R times int32 [n, 2], y0 and x0 of their regions, pixels.
        canvas: int32 [R, 2], height and width of the sheet, pixels.
        sheets: L, the number of sheets that count.
    """

    data: list[npt.NDArray[np.uint8]]
    size: npt.NDArray[np.float32]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    first: npt.NDArray[np.float32]
    last: npt.NDArray[np.float32]
    paste: list[npt.NDArray[np.int32]]
    anchor: list[npt.NDArray[np.int32]]
    canvas: npt.NDArray[np.int32]
    sheets: int

    @property
    def rows(self) -> int:
        """R, the number of rows."""
        return len(self.data)

    @classmethod
    def of(
        cls,
        batch: Plan,
        box: npt.NDArray[np.int64],
        sheet: npt.NDArray[np.int64],
        sheets: int,
        data: Sequence[bytes | memoryview],
    ) -> Feed:
        """Flatten a batch.

        Args:
            batch: the plan of one batch, M rows.
            box: int64 [M, 4], the window of each row in pixels of what is read.
            sheet: int64 [M], the sheet that each row is pasted on, ascending.
            sheets: the number of sheets.
            data: M encoded images.
        """
        count, rows = len(batch), max(len(batch), sheets, 1)
        start, end = np.zeros((rows, 2), np.int32), np.ones((rows, 2), np.int32)
        start[:count], end[:count] = box[:, [1, 0]], box[:, [3, 2]]
        size, first, last = (
            np.ones((rows, 2), np.float32),
            np.zeros((rows, 2), np.float32),
            np.ones((rows, 2), np.float32),
        )
        corner, opposite = batch.region[:, [1, 0]].astype(np.int32, order="C"), batch.region[:, [3, 2]]
        size[:count] = opposite - corner
        first[:count, 1], last[:count, 1] = batch.flip, ~batch.flip
        cuts = np.searchsorted(sheet, np.arange(1, rows))
        return cls(
            data=[np.frombuffer(d, np.uint8) for d in [*data, *[PLACEHOLDER] * (rows - count)]],
            size=size,
            start=start,
            end=end,
            first=first,
            last=last,
            paste=np.split(np.arange(count, dtype=np.int32), cuts),
            anchor=np.split(corner, cuts),
            canvas=np.full((rows, 2), batch.canvas_size, np.int32),
            sheets=sheets,
        )

    def inputs(self) -> dict[str, Any]:
        """The inputs by the names that the graph knows them by."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sheets"}
