"""Layout: cutting a canvas into regions whose areas follow the shares of those who get them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.planning.chance import Chances

Shares = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]


def check_cells(cells: int) -> None:
    """Refuse to share canvases of so many strides a side.

    Raises:
        MixloaderError: a canvas is a single stride.
    """
    if cells < 2:
        raise MixloaderError(
            "a canvas of one stride cannot be shared: use a larger image_size or canvas, a smaller stride=, or a "
            "policy that does not mix (Whole)"
        )


def cut_canvases(chance: Chances, shares: Shares, cells: int) -> Cells:
    """Regions for canvases that all hold the same number of constituents.

    One fills the canvas; two are cut apart by one border; three are a strip and two boxes beside it; four meet in
    a movable centre. A border falls on the cell that the shares ask for, or on one of its two neighbours at random
    so that the mean is right; which way round the canvas lies is random.

    Args:
        chance: float64 [C, 5], random numbers within 0 and 1.
        shares: float64 [C, k], k = 1 to 4 constituents, largest first; only their proportions matter.
        cells: side of the canvas in strides, at least 2 where canvases are shared.

    Returns:
        int64 [C, k, 4]: x0, y0, x1, y1 in cells. The k regions tile the canvas.
    """
    canvases, k = shares.shape
    part = shares / shares.sum(axis=1, keepdims=True)
    zero = np.zeros(canvases, np.int64)
    full = np.full(canvases, cells)
    for_x, for_y = chance[:, 0], chance[:, 1]
    if k == 1:
        boxes = [(zero, zero, full, full)]
    elif k == 2:
        x = _border(for_x, part[:, 0], cells)
        boxes = [(zero, zero, x, full), (x, zero, full, full)]
    elif k == 3:
        x = _border(for_x, part[:, 0], cells)
        y = _border(for_y, part[:, 1] / (part[:, 1] + part[:, 2]), cells)
        boxes = [(zero, zero, x, full), (x, zero, full, y), (x, y, full, full)]
    else:
        x = _border(for_x, part[:, 0] + part[:, 1], cells)
        y = _border(for_y, part[:, 0] + part[:, 2], cells)
        boxes = [(zero, zero, x, y), (zero, y, x, full), (x, zero, full, y), (x, y, full, full)]
    regions = np.stack([np.stack(box, axis=1) for box in boxes], axis=1)
    return _turn(chance[:, 2:], regions, cells) if k > 1 else regions


def _border(chance: Chances, part: Shares, cells: int) -> Cells:
    """Where to cut, 1 to cells - 1: part * cells, rounded at random so that the mean is exact."""
    return np.clip(np.floor(part * cells + chance), 1, cells - 1).astype(np.int64)


def _turn(chance: Chances, regions: Cells, cells: int) -> Cells:
    """Mirror each canvas's layout left to right, top to bottom and about its diagonal, each by a coin."""
    x0, y0, x1, y1 = np.moveaxis(regions, 2, 0)
    mirror_x, mirror_y, transpose = chance.T[:, :, None] < 0.5
    x0, x1 = np.where(mirror_x, cells - x1, x0), np.where(mirror_x, cells - x0, x1)
    y0, y1 = np.where(mirror_y, cells - y1, y0), np.where(mirror_y, cells - y0, y1)
    x0, y0 = np.where(transpose, y0, x0), np.where(transpose, x0, y0)
    x1, y1 = np.where(transpose, y1, x1), np.where(transpose, x1, y1)
    return np.stack((x0, y0, x1, y1), axis=2)
