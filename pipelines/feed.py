"""The feed: a batch of a plan as the flat inputs of the DALI graph, one entry for every constituent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixloader.plan import Plan

PLACEHOLDER = b"P6 1 1 255 \x00\x00\x00"
"""One black pixel: what the rows decode that only stand there because DALI draws as many sheets as images."""


@dataclass(frozen=True)
class Feed:
    """The inputs of one run. Every list has one array for each row (R of them, at least as many as sheets).

    Attributes:
        data: uint8 [bytes], the encoded image.
        size: float32 [2], height and width of its region, pixels.
        start: float32 [2], y0 and x0 of its window, fractions; x0 > x1 mirrors.
        end: float32 [2], y1 and x1.
        paste: int32 [n], the rows that are pasted on the sheet of this number, n >= 0.
        anchor: int32 [n, 2], y0 and x0 of their regions, pixels.
        canvas: float32 [2], height and width of the sheet, pixels.
        sheets: L, the number of sheets that count.
    """

    data: list[npt.NDArray[np.uint8]]
    size: list[npt.NDArray[np.float32]]
    start: list[npt.NDArray[np.float32]]
    end: list[npt.NDArray[np.float32]]
    paste: list[npt.NDArray[np.int32]]
    anchor: list[npt.NDArray[np.int32]]
    canvas: list[npt.NDArray[np.int32]]
    sheets: int

    @property
    def rows(self) -> int:
        """R, the number of rows."""
        return len(self.data)

    @classmethod
    def of(cls, batch: Plan, sheet: npt.NDArray[np.int64], sheets: int, data: Sequence[bytes | memoryview]) -> Feed:
        """Flatten a batch.

        Args:
            batch: the plan of one batch, M rows.
            sheet: int64 [M], the sheet that each row is pasted on, ascending.
            sheets: the number of sheets.
            data: M encoded images.
        """
        rows = max(len(batch), sheets, 1)
        spare = rows - len(batch)
        x0, y0, x1, y1 = batch.window.T
        left, right = np.where(batch.flip, x1, x0), np.where(batch.flip, x0, x1)
        corner, opposite = batch.region[:, [1, 0]], batch.region[:, [3, 2]]
        cuts = np.searchsorted(sheet, np.arange(1, rows))
        return cls(
            data=[np.frombuffer(d, np.uint8) for d in data] + [np.frombuffer(PLACEHOLDER, np.uint8)] * spare,
            size=[*_rows(opposite - corner, np.float32), *np.ones((spare, 2), np.float32)],
            start=[*_rows(np.stack((y0, left), axis=1), np.float32), *np.zeros((spare, 2), np.float32)],
            end=[*_rows(np.stack((y1, right), axis=1), np.float32), *np.ones((spare, 2), np.float32)],
            paste=np.split(np.arange(len(batch), dtype=np.int32), cuts),
            anchor=np.split(_rows(corner, np.int32), cuts),
            canvas=[np.full(2, batch.canvas_size, np.int32)] * rows,
            sheets=sheets,
        )

    def inputs(self) -> dict[str, list[npt.NDArray[np.generic]]]:
        """The inputs by the names that the graph knows them by."""
        return {
            "data": [*self.data],
            "size": [*self.size],
            "start": [*self.start],
            "end": [*self.end],
            "paste": [*self.paste],
            "anchor": [*self.anchor],
            "canvas": [*self.canvas],
        }


def _rows(array: npt.NDArray[np.generic], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """The array with its rows packed densely, as DALI wants them."""
    return np.ascontiguousarray(array, dtype)
