"""What every rival draws with: the plan, the JPEGs, and a canvas in torchvision's fast idiom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from vision import functional

SLOTS, EMPTY = 4, -100
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Plan:
    """A plan's file, by canvas.

    Attributes:
        side: of a canvas, pixels.
        canvases: of the epoch.
        size: canvases of a batch.
    """

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self.region, self.window = file["region"].astype(int), file["window"].astype(float)
            self.sample, self.flip, self.slot = file["sample"], file["flip"], file["slot"].astype(int)
            self.side, self.size = int(file["canvas_size"]), int(file["canvases_per_batch"])
            self.canvases = int(file["batches"]) * self.size
            self.first = np.searchsorted(file["canvas"], np.arange(self.canvases + 1))

    def rows(self, canvas: int) -> range:
        """The rows of one canvas."""
        return range(int(self.first[canvas]), int(self.first[canvas + 1]))

    def lap(self) -> list[range]:
        """The canvases of every batch."""
        return [range(start, start + self.size) for start in range(0, self.canvases, self.size)]

    def laps(self) -> Iterator[range]:
        """The canvases of one batch after the other, over and over."""
        while True:
            yield from self.lap()

    def box(self, row: int, width: int, height: int) -> tuple[int, int, int, int]:
        """The window of a row in whole pixels of its image: x0, y0, x1, y1."""
        x0, y0, x1, y1 = self.window[row]
        (x0, x1), (y0, y1) = _whole(x0, x1, width), _whole(y0, y1, height)
        return x0, y0, x1, y1


def _whole(start: float, stop: float, extent: int) -> tuple[int, int]:
    first = min(math.floor(start * extent + 0.5), extent - 1)
    return first, min(max(first + 1, math.floor(stop * extent + 0.5)), extent)


class Jpegs:
    """The encoded images and their labels, read as one memory-mapped file.

    Attributes:
        labels: int64 [N]
        sizes: int64 [N, 2], width and height.
    """

    def __init__(self, folder: str) -> None:
        with np.load(Path(folder, "index.npz")) as file:
            self._offsets, self.labels, self.sizes = file["offsets"], file["labels"], file["sizes"]
        # A plain array of the mapped bytes: slices of a `memmap` cost microseconds more each.
        self._blob = np.asarray(np.memmap(Path(folder, "jpegs.bin"), np.uint8, "r"))

    def __getitem__(self, sample: int) -> np.ndarray:
        """The encoded bytes: uint8 [bytes], a view."""
        return self._blob[self._offsets[sample] : self._offsets[sample + 1]]

    def labels_of(self, plan: Plan, canvas: int) -> np.ndarray:
        """The labels of a canvas by slot: int64 [SLOTS]."""
        labels = np.full(SLOTS, EMPTY)
        for row in plan.rows(canvas):
            labels[plan.slot[row]] = self.labels[plan.sample[row]]
        return labels


def decode(data: np.ndarray | bytes) -> np.ndarray:
    """Decode a JPEG: uint8 [H, W, 3]. Not by torchvision's decoder, which needs a torch of the same build."""
    from simplejpeg import decode_jpeg  # here, since those who decode by themselves need not have it

    return decode_jpeg(data)


def resized_crop(image: np.ndarray, rows: slice, columns: slice, size: list[int]) -> torch.Tensor:
    """Cut out a part and scale it: uint8 [3, height, width], the same as torchvision's `resized_crop`, but faster.

    For torch's fast path for bytes the crop must be one piece of channels-last memory, or planes come out, which have
    to be turned back into pixels: 1.7 times the time.
    """
    crop = torch.from_numpy(np.ascontiguousarray(image[rows, columns])).permute(2, 0, 1)
    return functional.resize_image(crop, size, antialias=True)


def draw(plan: Plan, canvas: int, jpegs: Jpegs | Sequence[bytes]) -> torch.Tensor:
    """One canvas: uint8 [S, S, 3].

    Args:
        plan: what to draw.
        canvas: its number.
        jpegs: all of them, or those of this canvas in the order of its rows.
    """
    rows = plan.rows(canvas)
    out = (torch.empty if len(rows) else torch.zeros)((plan.side, plan.side, 3), dtype=torch.uint8)
    for place, row in enumerate(rows):
        image = decode(jpegs[plan.sample[row]] if isinstance(jpegs, Jpegs) else jpegs[place])
        left, top, right, bottom = plan.box(row, image.shape[1], image.shape[0])
        x0, y0, x1, y1 = plan.region[row]
        drawn = resized_crop(image, slice(top, bottom), slice(left, right), [y1 - y0, x1 - x0])
        if plan.flip[row]:
            drawn = functional.horizontal_flip_image(drawn)
        out[y0:y1, x0:x1] = drawn.permute(1, 2, 0)
    return out


class Normalise:
    """Canvases uint8 [C, S, S, 3] to float32, with the mean taken off and divided by the deviation.

    A canvas at a time, which stays in the processor's cache meanwhile. The factors are laid out for a whole line of
    pixels: torch then works on long runs instead of three values.
    """

    def __init__(self, side: int) -> None:
        self._scale = torch.tensor([1 / (255 * s) for s in STD]).repeat(side)
        self._shift = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)]).repeat(side)

    def __call__(self, canvases: torch.Tensor) -> torch.Tensor:
        """float32 [C, 3, S, S], channels-last."""
        out = torch.empty(canvases.shape)
        for lines, made in zip(canvases.flatten(-2), out.flatten(-2), strict=True):
            made.copy_(lines).mul_(self._scale).add_(self._shift)
        return out.movedim(-1, -3)
