"""Borders: ways to keep the convolutions of one region from seeing the next one, to measure what that is worth.

None of them is in the library: `docs/results.md` has what they gave. The arithmetic is this project's own.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Border = Literal["open", "gutter", "wall"]


class _Walls:
    """What the hooks of one network share: the region map of the batch under way."""

    region_map: Tensor | None = None


def close_borders(model: nn.Module, border: Border) -> nn.Module:
    """Change a split network in place; `open` leaves it as it is.

    Args:
        model: as `split_model` returns it.
        border: `gutter` blanks the pixels beside every border in the picture; `wall` blanks the cells on one side of
            every border before every convolution that is wider than a pixel, so that what lies beyond is as far away
            as the zeros that pad a canvas. Both cost the picture those pixels or cells.
    """
    if border == "open":
        return model
    walls = _Walls()

    def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        images = args[0]
        if images.shape[1] != 4 or not module.training:
            walls.region_map = None
            return None
        walls.region_map = images[:, 3:]
        if border == "wall":
            return None
        keep = ~(_borders(images[:, 3:]) | _borders(images[:, 3:].flip(2, 3)).flip(2, 3))
        return (torch.cat((images[:, :3] * keep, images[:, 3:]), 1), *args[1:])

    def convolve(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if walls.region_map is None:
            return None
        x = args[0]
        cells = F.interpolate(walls.region_map, x.shape[2:], mode="nearest")
        return (x * ~_borders(cells), *args[1:])

    model.register_forward_pre_hook(enter, prepend=True)
    if border == "wall":
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
                module.register_forward_pre_hook(convolve)
    return model


def _borders(region_map: Tensor) -> Tensor:
    """Bool [C, 1, h, w]: the cells whose right, lower or lower right neighbour is of another region."""
    right = F.pad(region_map[..., :, 1:] != region_map[..., :, :-1], (0, 1))
    below = F.pad(region_map[..., 1:, :] != region_map[..., :-1, :], (0, 0, 0, 1))
    return right | below
