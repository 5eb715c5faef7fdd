"""Average pooling per region of a canvas. The arithmetic is this project's own."""

import torch
import torch.nn.functional as F
from torch import Tensor

SLOTS = 4
"""The most constituents of a canvas. Every batch has this many slots, so that shapes never change."""


def region_weights(region_map: Tensor, height: int, width: int) -> Tensor:
    """How much of every cell of a feature grid each slot covers.

    region_map: [C, S, S], the slot index of every pixel, -1 where the canvas is empty; any float or integer
    dtype. Returns [C, SLOTS, height, width] float32: the fraction, 0 to 1, of the cell's pixels that belong
    to the slot.
    """
    slots = torch.arange(SLOTS, device=region_map.device, dtype=region_map.dtype)
    owned = region_map.unsqueeze(1) == slots.view(1, SLOTS, 1, 1)
    return F.adaptive_avg_pool2d(owned.float(), (height, width))


def pool_regions(features: Tensor, region_map: Tensor) -> Tensor:
    """The mean feature vector of every slot: sum(f * w) / sum(w) with the slot's `region_weights` as w.

    A slot that owns no pixel gets the mean over the whole canvas. So the two samples of a blend, which share
    one region (a map of zeros), get the same vector, and nothing divides by zero; what an empty slot gets is
    never scored.

    features: [C, D, h, w]; region_map: [C, S, S]. Returns [C, SLOTS, D] in the dtype of `features`. The sums
    run in float32, also under autocast, and are rounded once, as the plain pooling of a network rounds.
    """
    weights = region_weights(region_map, *features.shape[2:]).flatten(2)
    total = weights.sum(2, keepdim=True)
    weights = torch.where(total > 0, weights, 1.0)
    weights = weights / weights.sum(2, keepdim=True)
    with torch.autocast(features.device.type, enabled=False):
        pooled = torch.bmm(weights, features.float().flatten(2).transpose(1, 2))
    return pooled.to(features.dtype)
