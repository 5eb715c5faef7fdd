"""An epoch's plan, a batch at a time: the same whoever asks, when, and in how many parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.runs import allocations, columns_of, random_sizes, relaxed, runs, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.planning import EpochPlan, block, epoch, plan_epoch
from mixloader.policies import Allocation, Budget, Run
from mixloader.policies.policy import even

Maker = Callable[[], EpochPlan]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a small set."""
    monkeypatch.setattr(block, "BLOCK", 64)


@st.composite
def plans(draw: st.DrawFn) -> Maker:
    """How to make a plan of up to a few dozen blocks, afresh every time."""
    run, seed = draw(runs()), draw(seeds)
    allocation, sizes = draw(allocations(run)), random_sizes(seed, run.samples)
    label = np.random.default_rng(seed).integers(0, 5, run.samples)
    shuffle = draw(st.booleans())
    return lambda: plan_epoch(allocation, run, sizes, seed=seed, epoch=2, label=label, shuffle=shuffle)


def same(one: Plan, other: Plan) -> bool:
    def shape(plan: Plan) -> tuple[int, ...]:
        return plan.image_size, plan.canvas_size, plan.batches, plan.canvases_per_batch

    return shape(one) == shape(other) and columns_of(one) == columns_of(other)


@relaxed
@given(make=plans())
def test_a_batch_is_that_of_the_whole_plan(make: Maker) -> None:
    planned = make()
    whole = planned.whole()
    whole.check()
    assert (whole.batches, whole.canvases_per_batch) == (planned.batches, planned.canvases_per_batch)
    assert (whole.image_size, whole.canvas_size) == (planned.image_size, planned.canvas_size)
    for b in range(planned.batches):
        assert same(planned.batch(b), whole.batch(b))


@relaxed
@given(make=plans(), data=st.data())
def test_the_order_of_asking_changes_nothing(make: Maker, data: st.DataObject) -> None:
    planned, whole = make(), make().whole()
    for b in data.draw(st.permutations(range(planned.batches))):
        assert same(planned.batch(b), whole.batch(b))


@relaxed
@given(make=plans(), ranks=st.integers(1, 5))
def test_the_parts_of_the_ranks_make_up_the_batch(make: Maker, ranks: int) -> None:
    planned = make()
    most = -(-planned.canvases_per_batch // ranks)
    for b in range(planned.batches):
        whole, canvases = planned.batch(b), np.arange(planned.canvases_per_batch)
        parts = [planned.batch(b, rank=rank, ranks=ranks) for rank in range(ranks)]
        for rank, part in enumerate(parts):
            taken = whole.take(canvases[rank::ranks])
            assert part.canvases_per_batch == most  # as many for all: one that is missing is empty
            assert same(part, replace(taken, canvases_per_batch=most))
        assert sorted(np.concatenate([part.sample for part in parts])) == sorted(whole.sample)
        assert np.isclose(planned.weight_of(b), whole.weight.sum())


def test_the_ranks_have_about_as_many_samples() -> None:
    """Though the larger shares of a batch come first."""
    run = Run(6400, 64, 128, 32, None)
    share = np.repeat(np.array([1, 1 / 2, 1 / 4], np.float32), [1600, 1600, 3200])
    sizes, budget = random_sizes(0, 6400), Budget(128, 32)
    planned = plan_epoch(Allocation(128, share, np.ones(6400, np.float32)), run, sizes, seed=0, epoch=0, budget=budget)
    assert [len(planned.batch(3, rank=rank, ranks=4)) for rank in range(4)] == [16, 16, 16, 16]


def eights() -> EpochPlan:
    """400 batches of 8, in blocks of 8 batches."""
    run = Run(3200, 8, 64, 32, None)
    return plan_epoch(even(run, 64, 1 / 2), run, random_sizes(0, 3200), seed=0, epoch=0)


def test_several_threads_make_a_block_once_and_get_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    made, counting = [], threading.Lock()

    def counted(decided: Any, number: int, rank: int, ranks: int) -> Plan:
        with counting:
            made.append(number)
        return block.draw_block(decided, number, rank, ranks)

    whole = eights().whole()
    monkeypatch.setattr(epoch, "draw_block", counted)
    planned = eights()
    with ThreadPoolExecutor(8) as pool:
        for first in range(0, planned.batches, 8):
            for b, batch in enumerate(pool.map(planned.batch, range(first, first + 8)), first):
                assert same(batch, whole.batch(b))
    assert sorted(made) == list(range(50))


def test_several_threads_far_apart_get_the_same_batches() -> None:
    planned, whole = eights(), eights().whole()
    order = np.random.default_rng(0).permutation(planned.batches).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert all(same(batch, whole.batch(b)) for b, batch in zip(order, pool.map(planned.batch, order), strict=True))


def test_blocks_differ() -> None:
    planned = eights()
    assert not np.array_equal(planned.batch(0).window, planned.batch(8).window)


@pytest.mark.parametrize("b", [-1, 400])
def test_there_is_no_other_batch(b: int) -> None:
    with pytest.raises(IndexError, match=f"batch {b} of a plan of 400 batches"):
        eights().batch(b)


@pytest.mark.parametrize(("rank", "ranks"), [(-1, 2), (2, 2), (0, 0)])
def test_there_is_no_other_rank(rank: int, ranks: int) -> None:
    with pytest.raises(IndexError, match=f"rank {rank} of {ranks}"):
        eights().batch(0, rank=rank, ranks=ranks)


def test_what_cannot_be_drawn_is_refused_before_the_first_batch() -> None:
    run = Run(80, 8, 32, 32, None)
    half = even(run, 32, 1 / 2)
    with pytest.raises(MixloaderError, match="one stride cannot be shared"):
        plan_epoch(half, run, random_sizes(0, 80), seed=0, epoch=0)
    with pytest.raises(MixloaderError, match="8 samples of a batch cannot be drawn on 1 canvases"):
        plan_epoch(half, run, random_sizes(0, 80), seed=0, epoch=0, budget=Budget(32, 1))


def test_the_sizes_are_read_where_they_are_and_not_copied() -> None:
    run = Run(3200, 8, 64, 32, None)
    allocation, sizes = Allocation(64, np.ones(3200, np.float32), np.ones(3200, np.float32)), random_sizes(0, 3200)
    planned = plan_epoch(allocation, run, sizes, seed=0, epoch=0)
    sizes[:] = 100
    assert np.array_equal(planned.batch(0).window, plan_epoch(allocation, run, sizes, seed=0, epoch=0).batch(0).window)
