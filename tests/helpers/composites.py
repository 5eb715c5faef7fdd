"""Region layouts of a canvas, and canvases drawn after them."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels


@st.composite
def tilings(draw: st.DrawFn, size: int, cell: int) -> list[Box]:
    """A whole canvas, two halves, a half and two quarters, or four quarters; borders on any cell, in any order."""
    cuts = st.integers(1, size // cell - 1).map(lambda cells: cells * cell)
    kind = draw(st.sampled_from(["whole", "halves", "three", "quarters"]))
    x, y, other = draw(cuts), draw(cuts), draw(cuts)
    left, right = [(0, 0, x, size)], [(x, 0, size, size)]
    split_left = [(0, 0, x, y), (0, y, x, size)]
    split_right = [(x, 0, size, other), (x, other, size, size)]
    boxes = {
        "whole": [(0, 0, size, size)],
        "halves": left + right,
        "three": left + split_right,
        "quarters": split_left + split_right,
    }[kind]
    if draw(st.booleans()):
        boxes = [(y0, x0, y1, x1) for x0, y0, x1, y1 in boxes]
    return draw(st.permutations(boxes))


def paste(pictures: list[Tensor], boxes: list[Box], size: int) -> Tensor:
    """The canvas [4, size, size] with every picture in its box, as the slot of its index."""
    canvas = torch.cat([torch.zeros(3, size, size), torch.full((1, size, size), -1.0)])
    for slot, ((x0, y0, x1, y1), picture) in enumerate(zip(boxes, pictures, strict=True)):
        canvas[:3, y0:y1, x0:x1] = picture
        canvas[3, y0:y1, x0:x1] = slot
    return canvas
