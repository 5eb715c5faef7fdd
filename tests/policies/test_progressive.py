"""Progressive trains small first and whole last, whatever the losses, for a part of the run or to a cost."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.runs import build_plan, random_losses, relaxed, runs, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.policies import Budget, Progressive, Run

policies = st.builds(
    Progressive,
    until=st.floats(0, 1),
    side=st.floats(0.01, 1),
    growth=st.sampled_from(["step", "ramp"]),
    view=st.sampled_from(["crop", "scale"]),
    end=st.floats(0, 1),
) | st.builds(Progressive, until=st.floats(0, 1), packed=st.just(True), end=st.floats(0, 1))
lengths = st.integers(1, 20)


def schedule(policy: Progressive, run: Run) -> list[Budget]:
    return [policy.budget(run, epoch) for epoch in range(run.epochs or 0)]


def passes(budgets: list[Budget], run: Run) -> float:
    """Whole-image passes of one batch in each epoch."""
    return sum(budget.canvases * run.area(budget.canvas_size) for budget in budgets)


def largest_speedup(policy: Progressive, run: Run) -> float:
    """What the refusal of an impossible speed-up names."""
    with pytest.raises(MixloaderError, match="Progressive: speedup=1000 is impossible here") as caught:
        replace(policy, speedup=1000).budget(run, 0)
    assert "\n" not in str(caught.value)
    found = re.search(r"largest possible is about ([\d.]+):", str(caught.value))
    assert found is not None
    return float(found[1])


@relaxed
@given(policy=policies, run=runs(epochs=8), seed=seeds)
def test_an_epoch_never_costs_less_than_the_one_before_and_the_end_is_whole(
    policy: Progressive, run: Run, seed: int
) -> None:
    budgets = schedule(policy, run)
    costs = [passes([budget], run) for budget in budgets]
    assert costs == sorted(costs)
    end = max(1, round(policy.end * 8))
    assert budgets[-end:] == [Budget(run.image_size, run.batch_size)] * end
    for epoch in (0, 4, 7):
        allocation = policy.allocate(run, epoch, random_losses(seed, run.samples), np.random.default_rng(seed))
        assert allocation.view == policy.view
        assert (allocation.weight == 1).all()
        assert len(set(allocation.share)) == 1
        assert allocation.canvas_size == budgets[epoch].canvas_size
        allocation.check(run)


@relaxed
@given(run=runs(epochs=8), side=st.floats(0.01, 1))
def test_small_canvases_are_the_nearest_multiple_of_the_stride(run: Run, side: float) -> None:
    policy = Progressive(until=0.5, side=side)
    small = policy.budget(run, 0)
    assert small.canvases == run.batch_size
    assert small.canvas_size % run.stride == 0
    assert run.stride <= small.canvas_size <= run.image_size
    assert abs(small.canvas_size - max(side * run.image_size, run.stride)) <= run.stride / 2 + 1e-6
    assert policy.budget(run, 3) == small
    assert policy.budget(run, 4) == Budget(run.image_size, run.batch_size)


@relaxed
@given(policy=policies, run=runs(), epochs=lengths, part=st.floats(0, 1))
def test_a_speedup_is_met_and_missed_by_less_than_one_step(
    policy: Progressive, run: Run, epochs: int, part: float
) -> None:
    run = replace(run, epochs=epochs)
    policy = replace(policy, speedup=1 + part * (largest_speedup(policy, run) - 1))
    budgets = schedule(policy, run)
    wanted, spent = epochs * run.batch_size / (policy.speedup or 1), passes(budgets, run)
    assert spent <= wanted + 1e-5
    cells = run.image_size // run.stride
    step = run.batch_size - -(-run.batch_size // 4) if policy.packed else run.batch_size * (1 - (1 - 1 / cells) ** 2)
    if budgets[0] != Budget(run.image_size, run.batch_size):
        assert spent > wanted - step - 1e-5


@relaxed
@given(policy=policies, run=runs(), epochs=lengths)
def test_an_impossible_speedup_names_the_largest_that_works(policy: Progressive, run: Run, epochs: int) -> None:
    run = replace(run, epochs=epochs)
    largest = largest_speedup(policy, run)
    schedule(replace(policy, speedup=largest), run)
    with pytest.raises(MixloaderError):
        schedule(replace(policy, speedup=largest + 0.0101), run)


@relaxed
@given(run=runs(epochs=8, least_batch=2), seed=seeds)
def test_packed_images_are_quarters_on_whole_canvases(run: Run, seed: int) -> None:
    policy = Progressive(packed=True)
    allocation = policy.allocate(run, 3, random_losses(seed, run.samples), np.random.default_rng(seed))
    assert (allocation.canvas_size, set(allocation.share), allocation.view) == (run.image_size, {0.25}, "scale")
    assert policy.budget(run, 3) == Budget(run.image_size, -(-run.batch_size // 4))
    assert policy.budget(run, 4) == Budget(run.image_size, run.batch_size)


RUN = Run(samples=100, batch_size=10, image_size=64, stride=4, epochs=16)


def test_the_default_is_half_the_run_at_half_the_side() -> None:
    assert schedule(Progressive(), RUN) == [Budget(32, 10)] * 8 + [Budget(64, 10)] * 8


def test_a_ramp_grows_evenly() -> None:
    run = replace(RUN, image_size=128)
    ramp = [budget.canvas_size for budget in schedule(Progressive(growth="ramp"), run)]
    assert ramp == [68, 76, 84, 92, 100, 108, 116, 124] + [128] * 8


def test_a_step_and_a_ramp_of_one_speedup_cost_the_same() -> None:
    step, ramp = (schedule(Progressive(speedup=1.8, growth=growth), RUN) for growth in ("step", "ramp"))
    assert passes(step, RUN) == pytest.approx(passes(ramp, RUN), abs=1.3)  # of 89: one stride of one epoch
    assert len({budget.canvas_size for budget in step}) <= 4 < len({budget.canvas_size for budget in ramp})


def test_one_sample_a_batch_has_nobody_to_be_packed_with() -> None:
    run = replace(RUN, batch_size=1)
    assert schedule(Progressive(packed=True), run) == [Budget(64, 1)] * 16
    assert schedule(Progressive(packed=True, speedup=1), run) == [Budget(64, 1)] * 16
    with pytest.raises(MixloaderError, match=r"speedup=1.5 is impossible here; the largest possible is about 1\.00"):
        Progressive(packed=True, speedup=1.5).budget(run, 0)


@pytest.mark.parametrize("packed", [False, True])
def test_a_small_epoch_is_drawn_as_it_says(packed: bool) -> None:
    policy, sizes = Progressive(packed=packed, speedup=2), np.full((100, 2), 64, np.int32)
    allocation = policy.allocate(RUN, 0, random_losses(0, 100), np.random.default_rng(0))
    plan = build_plan(allocation, RUN, sizes, seed=0, epoch=0, budget=policy.budget(RUN, 0), augment=None)
    assert plan.canvas_size == (64 if packed else 32)
    assert plan.canvases_per_batch == (3 if packed else 10)
    assert np.bincount(np.bincount(plan.canvas)).tolist() == ([0, 0, 10, 0, 20] if packed else [0, 100])
    square = np.ptp(plan.region.reshape(-1, 2, 2), axis=1)
    shows_all = (plan.window == [0, 0, 1, 1]).all(axis=1)
    assert shows_all[square[:, 0] == square[:, 1]].all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("until", -0.1),
        ("until", "half"),
        ("side", 0.001),
        ("side", None),
        ("growth", "jump"),
        ("growth", None),
        ("view", "side"),
        ("view", 2),
        ("end", 1.1),
        ("end", float("nan")),
        ("speedup", 0.5),
        ("speedup", "fast"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_with_its_value(name: str, value: Any) -> None:
    with pytest.raises(MixloaderError, match=rf"^Progressive: {name} must be .* got {value!r}$") as caught:
        Progressive(**{name: value})
    assert "\n" not in str(caught.value)


def test_packed_images_do_not_grow() -> None:
    with pytest.raises(MixloaderError, match="Progressive: packed images have one size"):
        Progressive(packed=True, growth="ramp")
