"""Windows: which part of each source image its region shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.planning.chance import Chances
from mixloader.policies.policy import View


@dataclass(frozen=True)
class Augment:
    """The random-resized crop and flip of a training run; the defaults are torchvision's.

    Attributes:
        scale: least and largest part of the image's area that a whole canvas shows.
        ratio: least and largest factor by which the window's aspect differs from its region's.
        flip: chance of mirroring left to right.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        """Refuse ranges that cannot be drawn from."""
        for name in ("scale", "ratio"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(_is_number, value)):
                raise MixloaderError(f"Augment: {name} must be a pair of numbers (least, largest), got {value!r}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise MixloaderError(f"Augment: scale must be (least, largest) within 0 and 1, got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise MixloaderError(f"Augment: ratio must be (least, largest), both above 0, got {self.ratio}")
        if not _is_number(self.flip) or not 0 <= self.flip <= 1:
            raise MixloaderError(f"Augment: flip must be a chance within 0 and 1, got {self.flip!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def draw_windows(
    chance: Chances,
    sizes: npt.NDArray[np.int32],
    region: npt.NDArray[np.int16],
    image_size: int,
    view: View,
    augment: Augment | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """A window and a flip for every row.

    A window takes u ~ U(scale) of the image's area at the region's own aspect times exp(U(log ratio)); with the
    view `crop` it takes the region's share of that, so that everything appears at the scale of a whole canvas. A
    window that is larger than the image shrinks until it fits, with its aspect kept, and is then placed at random.

    Args:
        chance: float64 [M, 5], random numbers within 0 and 1.
        sizes: int32 [M, 2], width and height of the upright images, pixels; 0 where unknown.
        region: int16 [M, 4].
        image_size: side of a whole canvas, pixels.
        view: see `Allocation`.
        augment: None gives the largest centred window, and no flip.

    Returns:
        float32 [M, 4], fractions of the image, each at least one float step wide; bool [M].
    """
    rows = len(region)
    width, height = np.maximum(sizes, 1).astype(np.float64).T
    box_width, box_height = (region[:, 2:] - region[:, :2]).astype(np.float64).T
    aspect, area = box_width / box_height, width * height
    if view == "crop":
        area *= box_width * box_height / image_size**2
    if augment is not None:
        area *= _between(chance[:, 0], *augment.scale)
        aspect *= np.exp(_between(chance[:, 1], *np.log(augment.ratio)))
    part = np.stack((np.sqrt(area * aspect) / width, np.sqrt(area / aspect) / height), axis=1)
    part /= np.maximum(part.max(axis=1, keepdims=True), 1)
    place = np.full((rows, 2), 0.5) if augment is None else chance[:, 2:4]
    start = np.minimum((1 - part) * place, 1 - 2**-24).astype(np.float32)  # at most the last float32 below 1
    stop = np.clip(start + part.astype(np.float32), np.nextafter(start, np.float32(2)), np.float32(1))
    flip = np.zeros(rows, np.bool_) if augment is None else chance[:, 4] < augment.flip
    return np.concatenate((start, stop), axis=1), flip


def _between(chance: Chances, low: float, high: float) -> Chances:
    return low + (high - low) * chance
