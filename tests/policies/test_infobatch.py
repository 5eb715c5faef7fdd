"""InfoBatch drops a random part of the easy ones and lets the kept ones make up for them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.runs import build_plan, losses_of, random_losses, random_sizes, relaxed, runs, seeds, unseen
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.policies import Allocation, Budget, InfoBatch, Run

RUN = Run(2000, 50, 64, 32, 16)


@relaxed
@given(seed=seeds, prune=st.floats(0, 0.9), epoch=st.integers(1, 13))
def test_only_easy_samples_are_dropped_and_the_kept_ones_make_up_for_them(seed: int, prune: float, epoch: int) -> None:
    losses = random_losses(seed, RUN.samples)
    allocation = InfoBatch(prune=prune).allocate(RUN, epoch, losses, np.random.default_rng(seed))
    mean = losses.loss[losses.known].mean(dtype=np.float64)
    easy = losses.known & (np.nan_to_num(losses.loss, nan=np.inf) < mean)
    assert set(np.unique(allocation.share)) <= {0, 1}
    assert (allocation.share[~easy] == 1).all()
    assert (allocation.weight[~easy] == 1).all()
    assert np.allclose(allocation.weight[easy], 1 / (1 - prune))
    dropped = (allocation.share[easy] == 0).mean()
    assert dropped == pytest.approx(prune, abs=6 * (prune * (1 - prune) / easy.sum()) ** 0.5 + 1e-9)


@relaxed
@given(seed=seeds)
def test_other_chance_drops_others(seed: int) -> None:
    losses = random_losses(seed, RUN.samples)
    first, other = (InfoBatch().allocate(RUN, 3, losses, np.random.default_rng((seed, i))).share for i in (0, 1))
    assert not np.array_equal(first, other)


def test_half_of_equal_numbers_of_easy_and_hard_ones_by_hand() -> None:
    losses = losses_of(np.tile([0, 1], 1000))
    allocation = InfoBatch().allocate(RUN, 1, losses, np.random.default_rng(0))
    assert (allocation.share[1::2] == 1).all()
    assert 400 < (allocation.share[::2] == 0).sum() < 600
    assert (allocation.weight[::2] == 2).all()


@pytest.mark.parametrize("epoch", [0, 14, 15])
def test_the_first_epoch_and_the_last_eighth_train_on_everything(epoch: int) -> None:
    """Also when an earlier run's losses are there from the start: the promised batches are full."""
    allocation = InfoBatch().allocate(RUN, epoch, random_losses(0, RUN.samples), np.random.default_rng(0))
    assert (allocation.share == 1).all()
    assert (allocation.weight == 1).all()
    assert InfoBatch().budget(RUN, epoch) == Budget(64, 50)


def test_in_between_the_cost_is_not_known() -> None:
    assert {InfoBatch().budget(RUN, epoch) for epoch in range(1, 14)} == {None}


def test_nothing_is_dropped_while_no_loss_is_known() -> None:
    allocation = InfoBatch().allocate(RUN, 5, unseen(RUN.samples), np.random.default_rng(0))
    assert (allocation.share == 1).all()


def allocated(policy: InfoBatch, seed: int, epoch: int = 5, unknown: float = 0.1, run: Run = RUN) -> Allocation:
    return policy.allocate(run, epoch, random_losses(seed, run.samples, unknown), np.random.default_rng(seed))


@relaxed
@given(run=runs(least_batch=8), seed=seeds, epoch=st.integers(0, 15), speedup=st.floats(1, 3), unknown=st.floats(0, 1))
def test_a_speedup_draws_as_many_as_the_budget_says_on_whole_canvases(
    run: Run, seed: int, epoch: int, speedup: float, unknown: float
) -> None:
    policy = InfoBatch(speedup=speedup)
    allocation, budget = allocated(policy, seed, epoch, unknown, run), policy.budget(run, epoch)
    assert budget is not None
    plan = build_plan(allocation, run, random_sizes(seed, run.samples), seed=seed, epoch=epoch, budget=budget)
    assert (plan.shares == 1).all()
    assert plan.canvases == budget.canvases * run.steps
    if run.samples >= run.batch_size:
        empty = plan.canvases - len(plan)
        assert empty < run.batch_size if run.samples % run.batch_size and not run.drop_last else empty == 0


@relaxed
@given(speedup=st.floats(1, 3.7), full=st.floats(0, 0.15))
def test_a_speedup_is_met_to_less_than_a_canvas_a_batch_over_the_run(speedup: float, full: float) -> None:
    policy = InfoBatch(speedup=speedup, full=full)
    budgets = [policy.budget(RUN, epoch) for epoch in range(16)]
    spent = sum(budget.canvases for budget in budgets if budget)
    assert None not in budgets
    assert 16 * 50 / speedup - 1 - 1e-6 < spent <= 16 * 50 / speedup + 1e-6


@relaxed
@given(seed=seeds, speedup=st.floats(1.01, 4.8), epoch=st.integers(1, 13))
def test_with_a_speedup_every_sample_has_the_weight_of_one_in_expectation(
    seed: int, speedup: float, epoch: int
) -> None:
    """The kept ones of those that may be dropped weigh as many times more as there were more of them."""
    allocation = allocated(InfoBatch(speedup=speedup), seed, epoch)
    kept, pruned = allocation.share == 1, np.unique(allocation.weight)
    assert allocation.weight.sum(where=kept, dtype=np.float64) == pytest.approx(RUN.samples, rel=1e-5)
    assert len(pruned) <= 2
    assert (allocation.weight[~kept] == pruned[-1]).all()


def test_with_a_speedup_the_weighted_loss_is_the_mean_loss_in_expectation() -> None:
    losses, policy = random_losses(3, RUN.samples, unknown=0), InfoBatch(speedup=2)
    loss, means = losses.loss.astype(np.float64), []
    loss[~losses.known] = 0
    for seed in range(400):
        allocation = policy.allocate(RUN, 5, losses, np.random.default_rng(seed))
        means.append(float((loss * allocation.share * allocation.weight).mean()))
    error = np.std(means) / len(means) ** 0.5
    assert abs(np.mean(means) - loss.mean()) < 4 * error
    assert np.std(means) < 0.05 * loss.mean()


@relaxed
@given(seed=seeds, speedup=st.floats(1.01, 4.8))
def test_with_a_speedup_only_the_lowest_losses_are_dropped(seed: int, speedup: float) -> None:
    losses = random_losses(seed, RUN.samples)
    allocation = InfoBatch(speedup=speedup).allocate(RUN, 5, losses, np.random.default_rng(seed))
    loss = np.where(losses.known, losses.loss, np.inf)
    pool = allocation.weight > 1
    assert not (allocation.share[~pool] == 0).any()
    assert loss[pool].max(initial=0) <= loss[~pool].min(initial=np.inf)
    if allocation.weight.max() < 19:  # enough of them lie below the mean
        assert np.array_equal(pool, loss < losses.loss[losses.known].mean(dtype=np.float64))


def test_where_too_few_are_easy_the_next_losses_are_and_no_weight_exceeds_20() -> None:
    losses = losses_of(np.concatenate([np.zeros(100), np.linspace(10, 11, 1900)]))
    allocation = InfoBatch(speedup=1.8).allocate(RUN, 5, losses, np.random.default_rng(0))
    assert (allocation.share == 0).sum() > 900
    assert (allocation.weight[:1000] == allocation.weight.max()).all()
    assert 18 < allocation.weight.max() <= 20


def test_with_a_speedup_chance_drops_where_no_loss_is_known() -> None:
    """As when a ledger was lost: the promised canvases must still be enough."""
    policy = InfoBatch(speedup=2)
    first, other = (policy.allocate(RUN, 5, unseen(2000), np.random.default_rng(seed)).share for seed in (0, 1))
    assert not np.array_equal(first, other)
    assert 0 < (first == 0).sum() == (other == 0).sum()


def test_a_speedup_by_hand() -> None:
    """16 epochs of 50 at half the cost are 400: the first and the last two take 150, the 13 between 19 or 20 each."""
    policy = InfoBatch(speedup=2)
    canvases = [budget.canvases for epoch in range(16) if (budget := policy.budget(RUN, epoch))]
    assert canvases[0] == canvases[14] == canvases[15] == 50
    assert sorted(canvases[1:14]) == [19] * 10 + [20] * 3
    shares = [allocated(policy, seed=1, epoch=epoch).share.sum() for epoch in range(16)]
    assert shares == [40 * count for count in canvases]


@pytest.mark.parametrize(("speedup", "full"), [(5.0, 0.125), (4.0, 0.25), (1.01, 1.0)])
def test_more_than_the_run_can_save_is_refused_with_what_it_can(speedup: float, full: float) -> None:
    with pytest.raises(
        MixloaderError, match=rf"InfoBatch: speedup={speedup:g} is impossible .* possible is "
    ) as caught:
        InfoBatch(speedup=speedup, full=full).budget(RUN, 0)
    assert "\n" not in str(caught.value)
