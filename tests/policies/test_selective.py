"""Selective backprop draws as many as the budget says, the higher their losses the more likely."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.runs import build_plan, losses_of, random_losses, random_sizes, relaxed, runs, seeds, unseen
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.policies import Run, SelectiveBackprop

RUN = Run(2000, 50, 64, 32, 16)


def drawn(policy: SelectiveBackprop, losses: Losses, seed: int = 0, epoch: int = 5, run: Run = RUN) -> np.ndarray:
    """Bool [N]: who trains."""
    allocation = policy.allocate(run, epoch, losses, np.random.default_rng(seed))
    assert set(np.unique(allocation.share)) <= {0, 1}
    assert (allocation.weight == 1).all()
    return np.asarray(allocation.share == 1)


@relaxed
@given(
    run=runs(least_batch=8),
    seed=seeds,
    epoch=st.integers(0, 15),
    speedup=st.floats(1, 3),
    beta=st.floats(0, 8),
    unknown=st.floats(0, 1),
)
def test_as_many_are_drawn_as_the_budget_says_on_whole_canvases(
    run: Run, seed: int, epoch: int, speedup: float, beta: float, unknown: float
) -> None:
    policy, losses = SelectiveBackprop(speedup, beta), random_losses(seed, run.samples, unknown)
    budget = policy.budget(run, epoch)
    allocation = policy.allocate(run, epoch, losses, np.random.default_rng(seed))
    plan = build_plan(allocation, run, random_sizes(seed, run.samples), seed=seed, epoch=epoch, budget=budget)
    assert (plan.shares == 1).all()
    assert plan.canvases == budget.canvases * run.steps
    if run.samples >= run.batch_size:
        empty = plan.canvases - len(plan)
        assert empty < run.batch_size if run.samples % run.batch_size and not run.drop_last else empty == 0


@relaxed
@given(speedup=st.floats(1, 3.7), full=st.floats(0, 0.15))
def test_the_speedup_is_met_to_less_than_a_canvas_a_batch_over_the_run(speedup: float, full: float) -> None:
    policy = SelectiveBackprop(speedup, full=full)
    spent = sum(policy.budget(RUN, epoch).canvases for epoch in range(16))
    assert 16 * 50 / speedup - 1 - 1e-6 < spent <= 16 * 50 / speedup + 1e-6


@relaxed
@given(seed=seeds, full=st.sampled_from([0.0, 0.1, 0.25]))
def test_the_first_epoch_and_the_last_ones_asked_for_train_on_everything(seed: int, full: float) -> None:
    policy, losses = SelectiveBackprop(1.3, full=full), random_losses(seed, RUN.samples)
    whole = [bool(drawn(policy, losses, seed, epoch).all()) for epoch in range(16)]
    last = round(full * 16)
    assert whole == [True] + [False] * (15 - last) + [True] * last


def chances(beta: float) -> np.ndarray:
    """How often each fifth of the samples, by rising loss, is drawn; beside how many are."""
    losses, policy = losses_of(np.linspace(0, 1, 2000)), SelectiveBackprop(2, beta)
    often = np.mean([drawn(policy, losses, seed) for seed in range(60)], axis=0)
    return np.asarray(often.reshape(5, -1).mean(axis=1))


@pytest.mark.parametrize("beta", [0.5, 1, 2])
def test_the_chance_rises_with_the_loss(beta: float) -> None:
    assert (np.diff(chances(beta)) > 0.02).all()


def test_a_larger_beta_draws_more_of_the_hard_ones_and_none_is_chance_alone() -> None:
    hardest = [chances(beta)[-1] for beta in (0, 0.5, 1, 2, 4)]
    assert (np.diff(hardest) > 0.01).all()
    assert np.ptp(chances(0)) < 0.02


def test_a_chance_follows_the_power_of_the_percentile_while_few_are_drawn() -> None:
    """Few: then who was drawn before hardly changes who is left."""
    run = Run(2000, 50, 64, 32, 100)
    losses, policy = losses_of(np.linspace(0, 1, 2000)), SelectiveBackprop(20, beta=1)
    often = np.mean([drawn(policy, losses, seed, epoch=50, run=run) for seed in range(400)], axis=0)
    parts = often.reshape(5, -1).mean(axis=1)
    assert parts / parts.sum() == pytest.approx(np.array([1, 3, 5, 7, 9]) / 25, abs=0.015)


@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf])
def test_unknown_losses_are_drawn_like_the_highest(unknown: float) -> None:
    losses = losses_of(np.linspace(0, 1, 2000))
    losses.loss[:200] = unknown
    often = np.mean([drawn(SelectiveBackprop(2, beta=3), losses, seed) for seed in range(20)], axis=0)
    assert often[:200].mean() > often[200:].mean() + 0.2


def test_chance_alone_draws_before_any_loss_is_known() -> None:
    first, other = (drawn(SelectiveBackprop(2), unseen(2000), seed) for seed in (0, 1))
    assert not np.array_equal(first, other)
    assert first.sum() == other.sum()


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta", -1), ("beta", float("inf")), ("beta", float("nan")), ("beta", "1"), ("full", 1.5), ("full", -0.1)],
)
def test_a_parameter_out_of_its_range_is_refused_with_its_value(name: str, value: object) -> None:
    with pytest.raises(MixloaderError, match=rf"SelectiveBackprop: {name} must be .* got {value!r}") as caught:
        SelectiveBackprop(**{name: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_more_than_the_run_can_save_is_refused_with_what_it_can() -> None:
    """One epoch of 16 on everything, and one sample of 50 in the others: 16 / 1.3."""
    SelectiveBackprop(12.3).budget(RUN, 0)
    with pytest.raises(MixloaderError, match=r"SelectiveBackprop: speedup=13 is impossible .* is 12\.30$") as caught:
        SelectiveBackprop(13).budget(RUN, 0)
    assert "\n" not in str(caught.value)
