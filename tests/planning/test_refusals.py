"""Allocations and budgets that cannot be drawn are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import build_plan, random_sizes

from mixloader.errors import MixloaderError
from mixloader.policies import Allocation, Budget, Run


def test_more_samples_than_the_canvases_can_hold_are_refused() -> None:
    run = Run(100, 20, 64, 32, None)
    crowd = Allocation(64, np.full(100, 0.1, np.float32), np.ones(100, np.float32))
    with pytest.raises(MixloaderError, match="20 samples of a batch cannot be drawn on 2 canvases"):
        build_plan(crowd, run, random_sizes(0, 100), seed=0, epoch=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canvas_size": 48}, "not a multiple of stride"),
        ({"canvas_size": 96}, "not a multiple of stride=32 up to image_size=64"),
        ({"share": np.ones(9, np.float32)}, r"share has shape \(9,\)"),
        ({"weight": np.ones((10, 1), np.float32)}, r"weight has shape \(10, 1\)"),
        ({"share": np.array([1] * 9 + [np.nan], np.float32)}, r"share\[9\] is nan"),
        ({"weight": np.array([1] * 9 + [-1], np.float32)}, r"weight\[9\] is -1"),
        ({"share": np.array([1] * 9 + [1.5], np.float32)}, r"share\[9\] is 1.5, more than the canvas"),
        ({"mixing": "stir"}, "mixing='stir'"),
        ({"view": "side"}, "view='side'"),
    ],
)
def test_an_allocation_that_cannot_be_drawn_is_refused(change: dict[str, object], message: str) -> None:
    run = Run(10, 4, 64, 32, None)
    good = Allocation(64, np.ones(10, np.float32), np.ones(10, np.float32))
    with pytest.raises(MixloaderError, match=message):
        build_plan(replace(good, **change), run, random_sizes(0, 10), seed=0, epoch=0)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(32, 4), "promised canvases of 32 pixels and allocated 64: its budget.* and allocate.* must agree"),
        (Budget(64, 5), "wants 5 canvases for a batch of 4 samples"),
        (Budget(64, -1), "wants -1 canvases for a batch of 4 samples"),
        (Budget(64, 0), "4 samples of a batch cannot be drawn on 0 canvases"),
    ],
)
def test_a_budget_that_disagrees_with_the_allocation_is_refused(budget: Budget, message: str) -> None:
    run = Run(10, 4, 64, 32, None)
    whole = Allocation(64, np.ones(10, np.float32), np.ones(10, np.float32))
    with pytest.raises(MixloaderError, match=message) as caught:
        build_plan(whole, run, random_sizes(0, 10), seed=0, epoch=0, budget=budget)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int64])
def test_shares_and_weights_of_other_types_are_planned_as_their_values(kind: type[np.generic]) -> None:
    run = Run(10, 4, 64, 32, None)
    ones = np.ones(10, np.float32)
    ours, other = (
        build_plan(Allocation(64, column, column), run, random_sizes(0, 10), seed=0, epoch=0)
        for column in (ones, ones.astype(kind))
    )
    assert all(np.array_equal(getattr(ours, name), getattr(other, name)) for name in ("sample", "region", "weight"))
    assert other.weight.dtype == np.float32
