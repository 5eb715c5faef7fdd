"""Versions: which stored version of each image is read for a batch, and which of its pixels are shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.shards.levels import level_size


@dataclass(frozen=True)
class Versions:
    """What every row of a batch reads; all pipelines take it from here, so that their pictures agree.

    Attributes:
        size: int64 [M, 2], width and height of that version, upright, pixels; 0 where unknown.
        box: int64 [M, 4], x0, y0, x1, y1, the window in its pixels; 0 where unknown.
        read: M times a sample and its level, 0 the image itself, 1 its half, 2 its quarter, 3 its eighth.
    """

    size: npt.NDArray[np.int64]
    box: npt.NDArray[np.int64]

    read: list[tuple[int, int]]

    @classmethod
    def of(cls, batch: Plan, shards: ShardSet) -> Versions:
        """For each row the smallest version whose window has at least as many pixels as the region, both ways.

        So no picture is enlarged, or enlarged further, because a smaller version was read.
        """
        full = shards.sizes[batch.sample].astype(np.int64)
        level, size, box = np.zeros(len(batch), np.int8), full, pixel_boxes(batch.window, full)
        stored = shards.stored(batch.sample) if shards.levels else level
        region = (batch.region[:, 2:] - batch.region[:, :2]).astype(np.int64)
        for smaller in range(1, shards.levels + 1):
            reduced = np.stack(level_size(full[:, 0], full[:, 1], smaller), axis=1)
            boxes = pixel_boxes(batch.window, reduced)
            fits = (stored >= smaller) & (boxes[:, 2:] - boxes[:, :2] >= region).all(axis=1)
            level[fits] = smaller
            size, box = np.where(fits[:, None], reduced, size), np.where(fits[:, None], boxes, box)
        return cls(size, box, [*zip(batch.sample.tolist(), level.tolist(), strict=True)])


def pixel_boxes(window: npt.NDArray[np.float32], size: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Windows in whole pixels: edges are rounded, and at least one pixel is left between them.

    A window is cropped first and the crop is resized alone, as in torchvision's `resized_crop`: then a decoder need
    not decode anything around it.

    Args:
        window: float32 [M, 4], x0, y0, x1, y1 as fractions.
        size: int64 [M, 2], width and height, pixels.

    Returns:
        int64 [M, 4], x0, y0, x1, y1.
    """
    edges = np.floor(window.astype(np.float64).reshape(-1, 2, 2) * size[:, None] + 0.5).astype(np.int64)
    start = np.minimum(edges[:, 0], np.maximum(size - 1, 0))
    stop = np.minimum(np.maximum(edges[:, 1], start + 1), size)
    return np.concatenate((start, stop), axis=1)
