"""Dealing: every batch the same mix, everyone once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import relaxed, runs, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.planning.deal import Deal, deal
from mixloader.policies import Run

LEVELS = np.array([0, 0.2, 0.25, 0.5, 0.5, 1], np.float32)
SMALL = 0.3


def dealt(
    rng: np.random.Generator, share: npt.NDArray[np.float32], run: Run, *, shuffle: bool = True
) -> tuple[Deal, npt.NDArray[np.int64]]:
    """The deal, and the batch of each of its samples."""
    got = deal(rng, share, run, small=SMALL, shuffle=shuffle)
    return got, np.repeat(np.arange(run.steps), np.diff(got.start))


def shares(rng: np.random.Generator, run: Run, kind: str) -> npt.NDArray[np.float32]:
    """Of every sample: some levels, as many as samples, one and none, or one for all."""
    if kind == "levels":
        return rng.choice(LEVELS, run.samples)
    if kind == "all different":
        return rng.uniform(0.1, 1, run.samples).astype(np.float32)
    return rng.choice(np.array([0.25, 0 if kind == "some" else 0.25], np.float32), run.samples)


kinds = st.sampled_from(["levels", "all different", "some", "one"])


@relaxed
@given(run=runs(), seed=seeds, kind=kinds, shuffle=st.booleans())
def test_everyone_with_a_share_is_dealt_once_but_for_a_dropped_batch(
    run: Run, seed: int, kind: str, shuffle: bool
) -> None:
    rng = np.random.default_rng(seed)
    share = shares(rng, run, kind)
    got, _ = dealt(rng, share, run, shuffle=shuffle)
    assert got.sample.dtype == np.uint32
    assert len(got.start) == run.steps + 1
    assert (got.start[0], got.start[-1]) == (0, len(got.sample))
    wanted = np.flatnonzero(share)
    assert len(np.unique(got.sample)) == len(got.sample)
    if run.drop_last:
        assert np.isin(got.sample, wanted).all()
        assert len(wanted) - len(got.sample) <= run.samples % run.batch_size
    else:
        assert np.array_equal(np.sort(got.sample), wanted)


@relaxed
@given(run=runs(), seed=seeds, kind=st.sampled_from(["all different", "one"]), shuffle=st.booleans())
def test_batches_have_their_sizes_where_nobody_sits_out(run: Run, seed: int, kind: str, shuffle: bool) -> None:
    rng = np.random.default_rng(seed)
    got, _ = dealt(rng, shares(rng, run, kind), run, shuffle=shuffle)
    count = run.steps * run.batch_size if run.drop_last else run.samples
    sizes = [min(run.batch_size, count - b * run.batch_size) for b in range(run.steps)]
    assert np.diff(got.start).tolist() == sizes


@relaxed
@given(run=runs(), seed=seeds, kind=kinds, shuffle=st.booleans())
def test_every_batch_gets_the_same_mix_largest_first(run: Run, seed: int, kind: str, shuffle: bool) -> None:
    rng = np.random.default_rng(seed)
    share = shares(rng, run, kind)
    got, batch = dealt(rng, share, run, shuffle=shuffle)
    for level in np.unique(share[share > 0]):
        at_least = np.bincount(batch[share[got.sample] >= level], minlength=run.steps)
        full = at_least[:-1] if len(at_least) > 1 else at_least
        assert np.ptp(full) <= 1
        assert at_least[-1] <= full.min() + 1
    for b in range(run.steps):
        assert (np.diff(share[got.sample[batch == b]]) <= 0).all()


@relaxed
@given(run=runs(), seed=seeds, kind=kinds)
def test_the_small_shares_of_every_batch_are_counted(run: Run, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    share = shares(rng, run, kind)
    got, batch = dealt(rng, share, run)
    assert got.small.tolist() == np.bincount(batch[share[got.sample] < SMALL], minlength=run.steps).tolist()


@relaxed
@given(run=runs(), seed=seeds, data=st.data())
def test_every_full_batch_draws_as_many_as_the_budget_says(run: Run, seed: int, data: st.DataObject) -> None:
    """Also where a last batch is dropped: it takes its part of those that are drawn with it."""
    rng, drawn = np.random.default_rng(seed), data.draw(st.integers(0, run.batch_size))
    share = np.zeros(run.samples, np.float32)
    share[rng.permutation(run.samples)[: drawn * run.samples // run.batch_size]] = 1
    got, _ = dealt(rng, share, run)
    full = run.steps if run.drop_last else run.samples // run.batch_size
    assert (np.diff(got.start)[:full] == drawn).all()


@relaxed
@given(run=runs(), seed=seeds, kind=kinds)
def test_unshuffled_equal_shares_come_in_the_order_of_their_ids(run: Run, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    share = shares(rng, run, kind)
    got, _ = dealt(rng, share, run, shuffle=False)
    for level in np.unique(share[got.sample]):
        assert (np.diff(got.sample[share[got.sample] == level].astype(np.int64)) > 0).all()


def test_a_short_last_batch_gets_its_part_of_every_share() -> None:
    run = Run(samples=10 * 16 + 8, batch_size=16, image_size=64, stride=32, epochs=None)
    share = np.repeat(np.array([1, 0.5], np.float32), run.samples // 2)
    got, batch = dealt(np.random.default_rng(0), share, run)
    last = share[got.sample[batch == run.steps - 1]]
    assert (last == 1).sum() == pytest.approx(4, abs=1)


def test_dealing_with_unequal_shares_does_not_bind_a_sample_to_a_batch() -> None:
    run = Run(samples=64, batch_size=8, image_size=64, stride=32, epochs=None)
    share = np.linspace(0.3, 1, 64).astype(np.float32)
    rng = np.random.default_rng(0)
    hardest = set()
    for _ in range(100):
        got, batch = dealt(rng, share, run)
        hardest.add(int(batch[got.sample == 63][0]))
    assert hardest == set(range(8))


def test_more_batches_than_are_dealt_to_at_a_time() -> None:
    run = Run(samples=300_001, batch_size=1, image_size=64, stride=32, epochs=None)
    rng = np.random.default_rng(0)
    got, _ = dealt(rng, rng.choice(LEVELS[1:], run.samples), run)
    assert np.array_equal(np.sort(got.sample), np.arange(run.samples))
    assert (np.diff(got.start) == 1).all()
