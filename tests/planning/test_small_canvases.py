"""What a canvas smaller than `image_size` shows, and how many of them a batch has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import build_plan, random_sizes, relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.plan import Plan
from mixloader.planning import Augment
from mixloader.policies import Run
from mixloader.policies.policy import View, even

square_runs = st.builds(
    lambda samples, cells, stride: Run(samples, 8, stride * cells, stride, 16),
    samples=st.integers(1, 60),
    cells=st.integers(2, 12),
    stride=st.sampled_from([4, 32]),
)


def small_plan(run: Run, cells: int, view: View, augment: Augment | None, seed: int = 0) -> Plan:
    """Every sample alone on a canvas of so many strides; square images of 1000 pixels."""
    allocation = replace(even(run, cells * run.stride), view=view)
    sizes = np.full((run.samples, 2), 1000, np.int32)
    return build_plan(allocation, run, sizes, seed=seed, epoch=0, augment=augment)


def shown(plan: Plan) -> npt.NDArray[np.float64]:
    """The part of its image that every row shows."""
    x0, y0, x1, y1 = plan.window.astype(np.float64).T
    return np.asarray((x1 - x0) * (y1 - y0))


@relaxed
@given(run=square_runs, data=st.data())
def test_a_small_canvas_shows_its_share_of_the_picture_as_a_crop_and_all_of_it_scaled(
    run: Run, data: st.DataObject
) -> None:
    cells = data.draw(st.integers(1, run.image_size // run.stride))
    crop, scale = small_plan(run, cells, "crop", None), small_plan(run, cells, "scale", None)
    assert shown(scale) == pytest.approx(1, abs=1e-6)
    assert shown(crop) == pytest.approx(run.area(cells * run.stride), rel=1e-5)
    assert np.allclose(crop.window[:, :2] + crop.window[:, 2:], 1, atol=1e-6)  # its middle


@relaxed
@given(run=square_runs, seed=seeds, data=st.data())
def test_a_crop_on_a_small_canvas_has_the_scale_of_a_whole_one(run: Run, seed: int, data: st.DataObject) -> None:
    """Source pixels per canvas pixel are the same on every canvas; a scaled view has more on a small one."""
    cells = data.draw(st.integers(1, run.image_size // run.stride))
    augment = Augment(scale=(0.3, 0.3), ratio=(1, 1))
    whole = small_plan(run, run.image_size // run.stride, "crop", augment, seed)
    zooms: dict[View, float] = {"crop": 1.0, "scale": 1 / run.area(cells * run.stride)}
    for view, zoom in zooms.items():
        small = small_plan(run, cells, view, augment, seed)
        relative = (shown(small) / small.canvas_size**2) / (shown(whole) / whole.canvas_size**2)
        assert relative == pytest.approx(zoom, rel=1e-4)


@relaxed
@given(seed=seeds)
def test_halves_of_a_small_canvas_show_their_shares_too(seed: int) -> None:
    run = Run(64, 8, 128, 32, 16)
    sizes = np.full((64, 2), 1000, np.int32)
    plan = build_plan(even(run, 64, 1 / 2), run, sizes, seed=seed, epoch=0, augment=None)
    assert plan.shares == pytest.approx(1 / 8)
    assert shown(plan) == pytest.approx(1 / 8, rel=1e-5)


@pytest.mark.parametrize("cells", range(1, 30))
def test_without_a_budget_float_dust_costs_no_canvas(cells: int) -> None:
    for part, canvases in ((1, 64), (1 / 2, 32), (1 / 4, 16)):
        run = Run(64, 64, 29, 1, None)
        if cells > 1 or part == 1:
            plan = build_plan(even(run, cells, part), run, random_sizes(0, 64), seed=0, epoch=0)
            assert plan.canvases == canvases
