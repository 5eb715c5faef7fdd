"""Composites of a network that cannot see across a border answer as their constituents do alone."""

import pytest
import torch
from helpers.composites import Box, paste, tilings
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mixloader.split import SLOTS, split_model
from mixloader.split.regions import pool_regions, region_weights

SIZE, CELL, CLASSES = 64, 8, 5


def cell_network() -> nn.Module:
    """A network that sees one cell at a time."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 16, CELL, CELL), nn.ReLU(), nn.Conv2d(16, 12, 1), nn.ReLU())
    return split_model((body, nn.Linear(12, CLASSES)))


NETWORK = cell_network()


@settings(max_examples=60, deadline=None)
@given(st.lists(tilings(SIZE, CELL), min_size=1, max_size=4), st.integers(0, 2**31))
def test_every_constituent_has_its_own_logits(canvases: list[list[Box]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pictures = [
        [torch.randn(3, y1 - y0, x1 - x0, generator=generator) for x0, y0, x1, y1 in boxes] for boxes in canvases
    ]
    images = torch.stack(
        [paste(drawn, boxes, SIZE) for drawn, boxes in zip(pictures, canvases, strict=True)]
    ).contiguous(memory_format=torch.channels_last)
    logits = NETWORK(images)
    assert logits.shape == (len(canvases), SLOTS, CLASSES)
    for row, drawn in zip(logits, pictures, strict=True):
        alone = torch.cat([NETWORK(picture.unsqueeze(0)) for picture in drawn])
        torch.testing.assert_close(row[: len(drawn)], alone, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(tilings(SIZE, CELL), st.sampled_from([1, 2, 4, 7, 8]))
def test_weights_say_how_much_of_a_cell_a_slot_owns(boxes: list[Box], grid: int) -> None:
    region_map = paste([torch.zeros(3, y1 - y0, x1 - x0) for x0, y0, x1, y1 in boxes], boxes, SIZE)[3:]
    weights = region_weights(region_map, grid, grid)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, grid, grid))
    assert not weights[:, len(boxes) :].any()


def test_a_blend_answers_the_same_in_both_slots_and_an_empty_slot_sees_the_canvas() -> None:
    features = torch.randn(2, 6, 4, 4)
    pooled = pool_regions(features, torch.zeros(2, 32, 32))
    torch.testing.assert_close(pooled, features.mean((2, 3)).unsqueeze(1).expand(-1, SLOTS, -1))


def test_an_empty_canvas_is_finite() -> None:
    assert pool_regions(torch.randn(1, 6, 4, 4), torch.full((1, 32, 32), -1)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_rounded_once(dtype: torch.dtype) -> None:
    features = torch.randn(2, 64, 7, 7).to(dtype)
    region_map = torch.zeros(2, 224, 224, dtype=dtype)
    region_map[:, :, 96:] = 1
    pooled = pool_regions(features, region_map)
    assert pooled.dtype == dtype
    expected = torch.stack([features[..., :3].double().mean((2, 3)), features[..., 3:].double().mean((2, 3))], 1)
    torch.testing.assert_close(pooled[:, :2].double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)
