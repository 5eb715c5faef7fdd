"""Levels: smaller versions of an image that may lie beside it in its shard."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Sides = TypeVar("_Sides", int, npt.NDArray[np.int64])

EXTENSIONS = ("half.jpg", "quarter.jpg", "eighth.jpg")
"""What the members of level 1, 2 and 3 end in, behind the key and a dot; always JPEG."""

MOST_LEVELS = len(EXTENSIONS)

SMALLEST_SIDE = 32
"""In pixels. A level whose shorter side would have fewer is not stored: it saves nothing worth its header."""


def level_size(width: _Sides, height: _Sides, level: int) -> tuple[_Sides, _Sides]:
    """The (width, height) in pixels of a level of an upright image that is `width` x `height`; level 0 is the image.

    Numbers, or arrays of them.
    """
    return -(-width >> level), -(-height >> level)


def worthwhile_levels(width: int, height: int, most: int) -> int:
    """How many levels of an upright image of this size in pixels are stored, at most `most`, counted from the half."""
    return sum(min(level_size(width, height, level)) >= SMALLEST_SIDE for level in range(1, most + 1))
