"""What holds of every plan, whatever the policy or the allocation made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import (
    PAIRS,
    POLICIES,
    allocations,
    build_plan,
    columns_of,
    random_losses,
    random_sizes,
    relaxed,
    runs,
    saved_bytes,
    seeds,
)
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.planning import Augment, epoch_rng
from mixloader.policies import Allocation, Naive, Policy, Run, Whole


def plan_of(
    policy: Policy, run: Run, epoch: int = 0, seed: int = 0, *, shuffle: bool = True
) -> tuple[Plan, Allocation]:
    losses = random_losses(seed, run.samples)
    allocation = policy.allocate(run, epoch, losses, epoch_rng(seed, epoch, 0))
    sizes, budget = random_sizes(seed, run.samples), policy.budget(run, epoch)
    plan = build_plan(allocation, run, sizes, seed=seed, epoch=epoch, budget=budget, shuffle=shuffle)
    return plan, allocation


@st.composite
def planned(draw: st.DrawFn) -> tuple[Plan, Allocation, Run]:
    """A plan of a policy, or of an allocation made by hand."""
    run, seed, shuffle = draw(runs(least_batch=2)), draw(seeds), draw(st.booleans())
    if draw(st.booleans()):
        policy = draw(st.sampled_from(POLICIES))
        try:
            policy.budget(run, 0)
        except MixloaderError:  # MixTrain in batches or canvases too small for its speed-up
            policy = Naive()
        return *plan_of(policy, run, draw(st.integers(0, 15)), seed, shuffle=shuffle), run
    allocation = draw(allocations(run))
    augment = draw(st.sampled_from([Augment(), None]))
    sizes = random_sizes(seed, run.samples)
    return build_plan(allocation, run, sizes, seed=seed, epoch=3, augment=augment, shuffle=shuffle), allocation, run


@relaxed
@given(planned())
def test_every_sample_with_a_share_is_drawn_exactly_once(case: tuple[Plan, Allocation, Run]) -> None:
    plan, allocation, run = case
    wanted = np.flatnonzero(allocation.share > 0)
    assert len(np.unique(plan.sample)) == len(plan)
    if run.drop_last:
        sitting_out = run.samples - len(wanted)
        assert np.isin(plan.sample, wanted).all()
        assert run.steps * run.batch_size - sitting_out <= len(plan) <= run.steps * run.batch_size
    else:
        assert np.array_equal(np.sort(plan.sample), wanted)


@relaxed
@given(planned())
def test_every_step_takes_its_batch_size_of_samples(case: tuple[Plan, Allocation, Run]) -> None:
    plan, allocation, run = case
    assert plan.batches == run.steps
    drawn = np.bincount(plan.canvas // max(plan.canvases_per_batch, 1), minlength=run.steps)
    sizes = np.full(run.steps, run.batch_size)
    if not run.drop_last:
        sizes[-1] = run.samples - (run.steps - 1) * run.batch_size
    assert (drawn <= sizes).all()
    if (allocation.share > 0).all():
        assert np.array_equal(drawn, sizes)
    assert np.ptp(drawn[:-1] if len(drawn) > 1 else drawn) <= 1  # those sitting out are spread over the batches


@relaxed
@given(planned())
def test_the_regions_of_a_canvas_tile_it_on_multiples_of_the_stride(case: tuple[Plan, Allocation, Run]) -> None:
    plan, allocation, run = case
    assert (plan.region % run.stride == 0).all()
    cells = plan.canvas_size // run.stride
    painted = np.zeros((plan.canvases, cells, cells), np.int64)
    for canvas, (x0, y0, x1, y1) in zip(plan.canvas, plan.region // run.stride, strict=True):
        painted[canvas, y0:y1, x0:x1] += 1
    together = np.bincount(plan.canvas, minlength=plan.canvases)
    expected = together if allocation.mixing == "blend" else np.minimum(together, 1)
    assert np.array_equal(painted, np.broadcast_to(expected[:, None, None], painted.shape))


@relaxed
@given(planned())
def test_opacities_and_slots_of_a_canvas_add_up(case: tuple[Plan, Allocation, Run]) -> None:
    plan, allocation, _ = case
    if allocation.mixing == "blend":
        opacity = np.bincount(plan.canvas, weights=plan.opacity)
        assert np.allclose(opacity[np.unique(plan.canvas)], 1)
    else:
        assert (plan.opacity == 1).all()
    first = np.flatnonzero(np.diff(plan.canvas, prepend=-1))
    numbered = np.arange(len(plan)) - np.repeat(first, np.diff(first, append=len(plan)))
    assert np.array_equal(plan.slot, numbered)
    assert len(plan) == 0 or plan.slot.max() < 4


@relaxed
@given(planned())
def test_the_shares_add_up_to_the_budget_less_empty_canvases(case: tuple[Plan, Allocation, Run]) -> None:
    plan, _, run = case
    occupied = len(np.unique(plan.canvas))
    assert plan.shares.sum(dtype=np.float64) == pytest.approx(occupied * run.area(plan.canvas_size))
    assert plan.cost == pytest.approx(plan.canvases * run.area(plan.canvas_size))


@relaxed
@given(planned())
def test_no_canvas_is_empty_while_another_is_shared(case: tuple[Plan, Allocation, Run]) -> None:
    plan, _, _ = case
    for b in range(plan.batches):
        together = np.bincount(plan.batch(b).canvas, minlength=plan.canvases_per_batch)
        assert len(together) == 0 or together.max() <= 1 or together.min() >= 1


@relaxed
@given(planned())
def test_every_row_carries_its_samples_weight(case: tuple[Plan, Allocation, Run]) -> None:
    plan, allocation, _ = case
    assert np.array_equal(plan.weight, allocation.weight[plan.sample])


@relaxed
@given(planned())
def test_in_a_pair_area_follows_the_requested_shares(case: tuple[Plan, Allocation, Run]) -> None:
    plan, allocation, run = case
    if allocation.mixing == "blend":
        return
    pairs = np.flatnonzero(np.bincount(plan.canvas, minlength=plan.canvases) == 2)
    for first in np.searchsorted(plan.canvas, pairs):
        x0, y0, x1, y1 = plan.region[first : first + 2].astype(int).T // run.stride
        cut_across = x1[0] - x0[0] < plan.canvas_size // run.stride
        extent = (x1 - x0) if cut_across else (y1 - y0)
        larger, smaller = np.argsort(-allocation.share[plan.sample[first : first + 2]], kind="stable")
        assert extent[larger] >= extent[smaller] - 1


@relaxed
@given(run=runs(), seed=seeds, data=st.data())
def test_without_a_budget_the_shares_themselves_are_met(run: Run, seed: int, data: st.DataObject) -> None:
    run = replace(run, drop_last=False)
    allocation = data.draw(allocations(run))
    plan = build_plan(allocation, run, random_sizes(seed, run.samples), seed=seed, epoch=0)
    asked = run.batch_size * allocation.share.mean(dtype=np.float64) / run.area(allocation.canvas_size)
    assert asked - 1e-4 <= plan.canvases_per_batch < asked + 1


@relaxed
@given(run=runs(), seed=seeds)
def test_whole_samples_sit_alone_whoever_sits_out(run: Run, seed: int) -> None:
    """As InfoBatch asks for; also where drop_last leaves more of those that are drawn than their mean."""
    share = (np.random.default_rng(seed).random(run.samples) < 0.6).astype(np.float32)
    allocation = Allocation(run.image_size, share, np.ones(run.samples, np.float32))
    plan = build_plan(allocation, run, random_sizes(seed, run.samples), seed=seed, epoch=0)
    assert (plan.shares == 1).all()


@relaxed
@given(run=runs(), seed=seeds)
def test_quarters_never_overfill_a_batch(run: Run, seed: int) -> None:
    share = np.where(np.random.default_rng(seed).random(run.samples) < 0.5, 0.25, 0).astype(np.float32)
    allocation = Allocation(run.image_size, share, np.ones(run.samples, np.float32))
    plan = build_plan(allocation, run, random_sizes(seed, run.samples), seed=seed, epoch=0)
    plan.check()
    assert np.isin(plan.sample, np.flatnonzero(share)).all()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("epoch", [0, 8, 15])
def test_the_same_seed_epoch_and_losses_give_the_same_bytes(policy: Policy, epoch: int, tmp_path: Path) -> None:
    run = Run(130, 16, 224, 32, 16)
    first = saved_bytes(plan_of(policy, run, epoch, 5)[0], tmp_path)
    assert saved_bytes(plan_of(policy, run, epoch, 5)[0], tmp_path) == first


@relaxed
@given(seed=seeds, epoch=st.integers(0, 14), samples=st.integers(40, 200), policy=st.sampled_from(POLICIES))
def test_another_seed_or_epoch_changes_order_and_windows(seed: int, epoch: int, samples: int, policy: Policy) -> None:
    run = Run(samples, 16, 128, 32, 16)
    allocation = plan_of(policy, run, epoch, seed)[1]
    sizes = random_sizes(seed, samples)

    def columns(seed: int, epoch: int) -> dict[str, bytes]:
        return columns_of(build_plan(allocation, run, sizes, seed=seed, epoch=epoch))

    here = columns(seed, epoch)
    for other in (columns(seed + 1, epoch), columns(seed, epoch + 1)):
        assert all(here[name] != other[name] for name in ("sample", "window"))


@relaxed
@given(run=runs(), seed=seeds)
def test_equal_shares_unshuffled_come_in_the_order_of_their_ids(run: Run, seed: int) -> None:
    drawn = run.steps * run.batch_size if run.drop_last else run.samples
    plan, _ = plan_of(Whole(), run, 0, seed, shuffle=False)
    assert plan.sample.tolist() == list(range(drawn))
    shared, _ = plan_of(Naive(), run, 0, seed, shuffle=False)
    for b in range(run.steps):
        start = b * run.batch_size
        assert sorted(shared.batch(b).sample) == list(range(start, min(start + run.batch_size, drawn)))


@relaxed
@given(run=runs(), other=st.integers(1, 33), seed=seeds)
def test_equal_shares_are_the_next_samples_of_one_permutation(run: Run, other: int, seed: int) -> None:
    """Whatever the batch size and the share: as from a plain loader."""
    run = replace(run, drop_last=False)
    order = plan_of(Whole(), run, 0, seed)[0].sample
    assert np.array_equal(plan_of(Whole(), replace(run, batch_size=other), 0, seed)[0].sample, order)
    halves = plan_of(Naive(), run, 0, seed)[0]
    for b in range(run.steps):
        here = order[b * run.batch_size : (b + 1) * run.batch_size]
        assert sorted(halves.batch(b).sample) == sorted(here)


@relaxed
@given(steps=st.integers(1, 12), batch_size=st.integers(2, 33), speedup=st.floats(1.05, 1.7), seed=seeds)
def test_mixtrains_hard_samples_keep_whole_canvases_in_the_plan(
    steps: int, batch_size: int, speedup: float, seed: int
) -> None:
    run = Run(steps * batch_size, batch_size, 128, 32, 8)
    policy = replace(PAIRS, speedup=1 + (speedup - 1) * (batch_size // 2) / batch_size / 2)
    plan, allocation = plan_of(policy, run, 3, seed)
    whole = plan.sample[plan.shares == 1]
    assert set(np.flatnonzero(allocation.share == 1)) == set(whole.tolist())


@relaxed
@given(run=runs(cells=(1, 1)), seed=seeds)
def test_a_canvas_of_one_cell_is_whole_or_refused(run: Run, seed: int) -> None:
    assert (plan_of(Whole(), run, 0, seed)[0].shares == 1).all()
    blended = plan_of(Naive("blend"), run, 0, seed)[0]
    assert (blended.region == [0, 0, run.image_size, run.image_size]).all()
    if run.batch_size > 1:
        with pytest.raises(MixloaderError, match="Naive cannot share canvases here"):
            Naive().budget(run, 0)
    if min(run.batch_size, run.samples) > (run.batch_size + 1) // 2:  # a policy that promised nothing
        halves = Naive().allocate(run, 0, random_losses(seed, run.samples), epoch_rng(seed, 0, 0))
        with pytest.raises(MixloaderError, match="one stride cannot be shared"):
            build_plan(halves, run, random_sizes(seed, run.samples), seed=seed, epoch=0)


def test_an_epoch_in_which_all_sit_out_draws_nothing() -> None:
    run = Run(10, 4, 64, 32, None)
    none = Allocation(64, np.zeros(10, np.float32), np.ones(10, np.float32))
    plan = build_plan(none, run, random_sizes(0, 10), seed=0, epoch=0)
    plan.check()
    assert (len(plan), plan.cost, plan.batches) == (0, 0, 3)
