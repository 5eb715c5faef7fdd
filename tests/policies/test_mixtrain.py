"""MixTrain: the budget is filled exactly, by resolution and by selection, and who needs least pays."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import losses_of, random_losses, random_sizes, relaxed, seeds, unseen
from hypothesis import assume, given
from hypothesis import strategies as st

from mixloader.controller import Controller
from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.policies import Budget, Ladder, MixTrain, Resolution, Run

ladders = st.sampled_from(
    [Ladder(), Ladder(drop=0.4), Ladder(0, half=1), Ladder(0.3, 0.2, 0.5), Ladder(0, quarter=1), Ladder(0.9, 0.1)]
)
resolutions = st.builds(
    Resolution, side=st.floats(0.2, 1), growth=st.sampled_from(["step", "ramp"]), end=st.floats(0, 0.4)
)
policies = st.builds(
    MixTrain,
    speedup=st.floats(1, 3),
    selection=st.floats(0, 1),
    resolution=resolutions,
    ladder=ladders,
    view=st.sampled_from(["crop", "scale"]),
)


@st.composite
def mixtrain_runs(draw: st.DrawFn) -> Run:
    stride = draw(st.sampled_from([4, 32]))
    return Run(500, draw(st.integers(1, 200)), stride * draw(st.integers(2, 12)), stride, draw(st.integers(1, 60)))


@st.composite
def possible(draw: st.DrawFn) -> tuple[MixTrain, Run, list[Budget]]:
    """A policy that the run can meet, and its schedule."""
    policy, run = draw(policies), draw(mixtrain_runs())
    try:
        return policy, run, schedule(policy, run)
    except MixloaderError:
        assume(False)
        raise AssertionError from None


def schedule(policy: MixTrain, run: Run) -> list[Budget]:
    return [policy.budget(run, epoch) for epoch in range(run.epochs or 0)]


def passes(budgets: list[Budget], run: Run) -> float:
    return sum(budget.canvases * run.area(budget.canvas_size) for budget in budgets)


def largest_speedup(policy: MixTrain, run: Run) -> float:
    with pytest.raises(MixloaderError, match="the largest possible is about") as caught:
        schedule(replace(policy, speedup=1e9), run)
    assert "\n" not in str(caught.value)
    found = re.search(r"possible is about (\d+\.\d\d)", str(caught.value))
    assert found
    return float(found[1])


@relaxed
@given(possible())
def test_the_run_costs_its_budget_and_never_more(case: tuple[MixTrain, Run, list[Budget]]) -> None:
    policy, run, budgets = case
    budget = len(budgets) * run.batch_size / policy.speedup
    cost = passes(budgets, run)
    assert cost <= budget + 1e-6 * run.batch_size
    if any(b.canvases < run.batch_size for b in budgets):  # the ladder makes up what whole strides leave over
        assert cost > budget - 1 - 1e-6


@relaxed
@given(possible())
def test_the_first_epoch_draws_all_and_the_last_ones_are_large(case: tuple[MixTrain, Run, list[Budget]]) -> None:
    policy, run, budgets = case
    assert budgets[0].canvases == run.batch_size
    end = policy.resolution.end_epochs(len(budgets))
    assert {budget.canvas_size for budget in budgets[-end:]} == {run.image_size}
    sides = [budget.canvas_size for budget in budgets]
    assert sides == sorted(sides)


@relaxed
@given(policy=policies, run=mixtrain_runs())
def test_an_impossible_speedup_names_the_largest_that_works(policy: MixTrain, run: Run) -> None:
    largest = largest_speedup(policy, run)
    assume(largest >= 1.01)
    schedule(replace(policy, speedup=largest - 0.005), run)
    with pytest.raises(MixloaderError, match="is impossible here"):
        schedule(replace(policy, speedup=largest + 0.0101), run)


@relaxed
@given(case=possible(), seed=seeds)
def test_the_shares_add_up_to_the_canvases(case: tuple[MixTrain, Run, list[Budget]], seed: int) -> None:
    policy, run, budgets = case
    epoch = seed % len(budgets)
    allocation = policy.allocate(run, epoch, random_losses(seed, run.samples), np.random.default_rng(seed))
    allocation.check(run)
    mean = allocation.share.mean(dtype=np.float64) / run.area(allocation.canvas_size)
    assert mean == pytest.approx(budgets[epoch].canvases / run.batch_size, abs=1 / run.samples)
    assert (allocation.weight == 1).all()


@relaxed
@given(
    samples=st.integers(30, 400),
    batch_size=st.integers(2, 40),
    cells=st.integers(1, 4),
    speedup=st.floats(1.01, 2.5),
    selection=st.floats(0, 1),
    drop_last=st.booleans(),
    seed=seeds,
)
def test_nobody_shares_a_canvas_where_no_rung_says_so(
    samples: int, batch_size: int, cells: int, speedup: float, selection: float, drop_last: bool, seed: int
) -> None:
    run = Run(samples, min(batch_size, samples), 32 * cells, 32, 6, drop_last)
    policy = MixTrain(speedup, selection=selection)
    try:
        controller = Controller(policy, run, random_sizes(seed, samples), LossLedger(samples))
    except MixloaderError:
        assume(False)
        raise AssertionError from None
    for epoch in range(6):
        plan = controller.plan(epoch, random_losses(seed, samples)).whole()
        assert np.bincount(plan.canvas).max(initial=0) <= 1


RUN = Run(samples=400, batch_size=40, image_size=224, stride=32, epochs=16)


@relaxed
@given(seed=seeds, ladder=ladders, epoch=st.integers(1, 15))
def test_shares_never_fall_as_the_loss_rises(seed: int, ladder: Ladder, epoch: int) -> None:
    policy = MixTrain(speedup=1.3, selection=1, ladder=ladder)
    losses = random_losses(seed, 400)
    share = policy.allocate(RUN, epoch, losses, np.random.default_rng(seed)).share
    by_loss = share[np.argsort(np.where(losses.known, losses.loss, np.inf), kind="stable")]
    known = int(losses.known.sum())
    assert (np.diff(by_loss[:known]) >= 0).all()
    assert by_loss[known:].min(initial=1) >= by_loss[:known].max(initial=0)


@pytest.mark.parametrize("unknown", ["never", "nan", "inf", "-inf"])
def test_a_sample_without_a_finite_loss_counts_as_hard(unknown: str) -> None:
    losses = losses_of(np.linspace(0, 1, 400))
    losses.loss[:20] = np.nan if unknown == "never" else float(unknown)
    losses.seen[:20] = -1 if unknown == "never" else 0
    share = MixTrain(speedup=1.3, selection=1).allocate(RUN, 5, losses, np.random.default_rng(0)).share
    assert (share[:20] == 1).all()
    assert share[20] == 0


def test_before_any_loss_is_known_chance_decides() -> None:
    policy = MixTrain(speedup=1.3, selection=1)
    shares = [policy.allocate(RUN, 1, unseen(400), np.random.default_rng(s)).share for s in (0, 1)]
    assert not np.array_equal(*shares)
    assert (shares[0] < 1).sum() == (shares[1] < 1).sum() > 0


def test_selection_says_which_side_saves() -> None:
    assert {b.canvas_size for b in schedule(MixTrain(speedup=1.6, selection=1), RUN)} == {224}
    assert {b.canvases for b in schedule(MixTrain(speedup=1.6, selection=0), RUN)} == {40}
    both = schedule(MixTrain(speedup=1.6, selection=0.5), RUN)
    assert len({b.canvas_size for b in both}) > 1
    assert len({b.canvases for b in both}) > 1


def test_where_the_ladder_is_too_short_resolution_takes_over() -> None:
    budgets = schedule(MixTrain(speedup=2, selection=1, ladder=Ladder(drop=0.1)), RUN)
    assert budgets[0].canvas_size == 128
    assert passes(budgets, RUN) == pytest.approx(16 * 40 / 2, abs=1)


def test_where_resolution_has_nothing_to_give_the_ladder_takes_over() -> None:
    budgets = schedule(MixTrain(speedup=1.8, selection=0, resolution=Resolution(side=1)), RUN)
    assert {b.canvas_size for b in budgets} == {224}
    assert passes(budgets, RUN) == pytest.approx(16 * 40 / 1.8, abs=1)


def test_a_canvas_of_one_cell_is_not_shared() -> None:
    run = Run(320, 32, 32, 32, 32)
    with pytest.raises(MixloaderError, match="cannot share canvases"):
        MixTrain(speedup=1.5, ladder=Ladder(0, half=1)).budget(run, 0)
    assert passes(schedule(MixTrain(speedup=1.5), run), run) == pytest.approx(32 * 32 / 1.5, abs=1)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"drop": 1.5}, "drop must be within 0 and 1, got 1.5"),
        ({"drop": 0.6, "half": 0.6}, "drop=0.6, quarter=0 and half=0.6 are more than all"),
        ({"spread": 0.3}, "spread must be within 0 and 0.2, got 0.3"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(parts: dict[str, float], words: str) -> None:
    with pytest.raises(MixloaderError, match=words) as caught:
        Ladder(**parts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speedup": 0.9}, "speedup must be a number of at least 1, got 0.9"),
        ({"selection": -1}, "selection must be within 0 and 1, got -1"),
        ({"view": "both"}, "view must be 'crop' or 'scale', got 'both'"),
        ({"pairing": "best"}, "pairing must be 'opposite', 'random' or 'classes', got 'best'"),
        ({"ladder": Ladder}, "ladder must be a Ladder"),
        ({"resolution": 0.5}, "resolution must be a Resolution"),
        ({"score": "loss"}, "score must be a Score"),
    ],
)
def test_parameters_that_cannot_be_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(MixloaderError, match=re.escape(words)) as caught:
        MixTrain(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
