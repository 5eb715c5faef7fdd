"""Dealing batches and seating them: every batch the same mix, every canvas one to four samples."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.runs import relaxed, runs, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.planning.deal import Seats, deal_batches, seat
from mixloader.policies import Run
from mixloader.policies.policy import Pairing

pairings = st.sampled_from(["opposite", "random", "classes"])
LEVELS = np.array([0, 0.2, 0.25, 0.5, 0.5, 1], np.float32)


@relaxed
@given(run=runs(), seed=seeds, shuffle=st.booleans())
def test_batches_have_their_sizes_and_nobody_comes_twice(run: Run, seed: int, shuffle: bool) -> None:
    rng = np.random.default_rng(seed)
    sample, batch = deal_batches(rng, rng.choice(LEVELS, run.samples), run, shuffle=shuffle)
    count = run.steps * run.batch_size if run.drop_last else run.samples
    sizes = [min(run.batch_size, count - b * run.batch_size) for b in range(run.steps)]
    assert np.bincount(batch).tolist() == sizes
    assert (np.diff(batch) >= 0).all()
    assert len(np.unique(sample)) == count
    assert 0 <= sample.min() <= sample.max() < run.samples


@relaxed
@given(run=runs(), seed=seeds)
def test_every_batch_gets_the_same_mix_largest_first(run: Run, seed: int) -> None:
    rng = np.random.default_rng(seed)
    share = rng.choice(LEVELS, run.samples)
    sample, batch = deal_batches(rng, share, run, shuffle=True)
    for level in np.unique(share):
        at_least = np.bincount(batch[share[sample] >= level], minlength=run.steps)
        full = at_least[:-1] if len(at_least) > 1 else at_least
        assert np.ptp(full) <= 1
        assert at_least[-1] <= full.min() + 1
    for b in range(run.steps):
        assert (np.diff(share[sample[batch == b]]) <= 0).all()


@relaxed
@given(run=runs(), seed=seeds, data=st.data())
def test_every_full_batch_draws_as_many_as_the_budget_says(run: Run, seed: int, data: st.DataObject) -> None:
    """Also where a last batch is dropped: it takes its part of those that are drawn with it."""
    rng, drawn = np.random.default_rng(seed), data.draw(st.integers(0, run.batch_size))
    share = np.zeros(run.samples, np.float32)
    share[rng.permutation(run.samples)[: drawn * run.samples // run.batch_size]] = 1
    sample, batch = deal_batches(rng, share, run, shuffle=True)
    count = np.bincount(batch, weights=share[sample], minlength=run.steps)
    full = run.steps if run.drop_last else run.samples // run.batch_size
    assert (count[:full] == drawn).all()


def test_a_short_last_batch_gets_its_part_of_every_share() -> None:
    run = Run(samples=10 * 16 + 8, batch_size=16, image_size=64, stride=32, epochs=None)
    share = np.repeat(np.array([1, 0.5], np.float32), run.samples // 2)
    sample, batch = deal_batches(np.random.default_rng(0), share, run, shuffle=True)
    last = share[sample[batch == run.steps - 1]]
    assert (last == 1).sum() == pytest.approx(4, abs=1)


def test_dealing_with_unequal_shares_does_not_bind_a_sample_to_a_batch() -> None:
    run = Run(samples=64, batch_size=8, image_size=64, stride=32, epochs=None)
    share = np.linspace(0.3, 1, 64).astype(np.float32)
    rng = np.random.default_rng(0)
    hardest = set()
    for _ in range(100):
        sample, batch = deal_batches(rng, share, run, shuffle=True)
        hardest.add(int(batch[sample == 63][0]))
    assert hardest == set(range(8))


@st.composite
def dealt(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Samples of some batches with their shares, and canvases that can hold them."""
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=6))
    batch = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(draw(seeds))
    share = rng.choice(np.array([0, 0.1, 0.25, 0.29, 0.5, 1], np.float32), len(batch))
    sample = np.lexsort((-share, batch))
    occupied = int(np.bincount(batch[share > 0], minlength=len(sizes)).max())
    canvases = draw(st.integers(-(-occupied // 4), max(occupied, 1) + 3))
    return sample, batch, share, canvases, len(sizes)


def take_seats(
    sample: np.ndarray,
    batch: np.ndarray,
    share: np.ndarray,
    canvases: int,
    steps: int,
    *,
    pairing: Pairing = "opposite",
    label: np.ndarray | None = None,
) -> Seats:
    label = np.zeros(len(share), np.int64) if label is None else label
    rng = np.random.default_rng(0)
    return seat(rng, (sample, batch), share, label, canvases=canvases, whole=1.0, steps=steps, pairing=pairing)


@relaxed
@given(dealt(), pairings)
def test_everyone_with_a_share_is_seated_in_their_own_batch(case: tuple[np.ndarray, ...], pairing: Pairing) -> None:
    sample, batch, share, canvases, steps = case
    seats = take_seats(sample, batch, share, canvases, steps, pairing=pairing)
    assert sorted(seats.sample) == np.flatnonzero(share > 0).tolist()
    of_sample = np.empty(len(sample), np.int64)
    of_sample[sample] = batch
    assert np.array_equal(seats.canvas // max(canvases, 1), of_sample[seats.sample])


@relaxed
@given(dealt(), pairings)
def test_a_crowded_batch_fills_every_canvas_and_a_sparse_one_sits_alone(
    case: tuple[np.ndarray, ...], pairing: Pairing
) -> None:
    sample, batch, share, canvases, steps = case
    seats = take_seats(sample, batch, share, canvases, steps, pairing=pairing)
    together = np.bincount(seats.canvas, minlength=canvases * steps).reshape(steps, canvases)
    for row in together:
        assert row.max(initial=0) <= 4
        assert row.sum() <= canvases or row.min() >= 1
        assert row.sum() > canvases or row.max(initial=0) <= 1
        assert (row == 3).sum() <= 1
    assert np.array_equal(seats.together, np.bincount(seats.canvas)[seats.canvas] if len(seats.canvas) else [])


@relaxed
@given(dealt(), pairings)
def test_the_largest_shares_sit_alone_and_the_smallest_in_fours(case: tuple[np.ndarray, ...], pairing: Pairing) -> None:
    sample, batch, share, canvases, steps = case
    seats = take_seats(sample, batch, share, canvases, steps, pairing=pairing)
    for b in range(steps):
        here = (seats.canvas // max(canvases, 1)) == b
        by_company = [share[seats.sample[here & (seats.together == k)]] for k in (1, 2)]
        crowd = share[seats.sample[here & (seats.together >= 3)]]
        for larger, smaller in ((by_company[0], by_company[1]), (by_company[0], crowd), (by_company[1], crowd)):
            assert len(larger) == 0 or len(smaller) == 0 or larger.min() >= smaller.max()


@relaxed
@given(dealt(), pairings)
def test_slots_count_up_from_the_largest_share_of_a_canvas(case: tuple[np.ndarray, ...], pairing: Pairing) -> None:
    sample, batch, share, canvases, steps = case
    seats = take_seats(sample, batch, share, canvases, steps, pairing=pairing)
    for canvas in np.unique(seats.canvas):
        here = seats.canvas == canvas
        assert seats.slot[here].tolist() == list(range(here.sum()))
        assert (np.diff(share[seats.sample[here]]) <= 0).all()


def test_halves_and_quarters_sit_as_they_ask() -> None:
    share = np.array([1, 1, 0.5, 0.5, 0.5, 0.5, *[0.25] * 8], np.float32)
    seats = take_seats(np.arange(14), np.zeros(14, np.int64), share, 6, 1)
    assert np.bincount(seats.canvas).tolist() == [1, 1, 2, 2, 4, 4]


def test_too_many_samples_are_refused() -> None:
    with pytest.raises(MixloaderError, match="9 samples of a batch cannot be drawn on 2 canvases"):
        take_seats(np.arange(9), np.zeros(9, np.int64), np.full(9, 0.25, np.float32), 2, 1)


def test_opposite_pairs_seat_the_largest_share_with_the_smallest() -> None:
    share = np.linspace(1, 0.35, 14).astype(np.float32)
    seats = take_seats(np.arange(14), np.zeros(14, np.int64), share, 7, 1)
    assert seats.sample.reshape(7, 2).sum(axis=1).tolist() == [13] * 7


@relaxed
@given(seed=seeds, pairs=st.integers(1, 20), fours=st.booleans())
def test_pairs_of_classes_hold_no_class_twice_where_there_are_enough(seed: int, pairs: int, fours: bool) -> None:
    rng = np.random.default_rng(seed)
    k = 4 if fours else 2
    count = k * pairs
    label = rng.permutation(np.arange(count) % max(k, rng.integers(k, 9)))
    while np.bincount(label).max() > pairs:
        label = np.arange(count) % k
    share = np.full(count, 1 / k, np.float32)
    seats = take_seats(np.arange(count), np.zeros(count, np.int64), share, pairs, 1, pairing="classes", label=label)
    for company in label[seats.sample].reshape(pairs, k):
        assert len(set(company)) == k


@pytest.mark.parametrize("pairing", ["random", "classes"])
def test_the_other_pairings_are_chance(pairing: Pairing) -> None:
    share, label = np.linspace(0.6, 0.4, 40).astype(np.float32), np.arange(40) % 4
    rng, company = np.random.default_rng(0), set()
    for _ in range(60):
        dealt_ = np.arange(40), np.zeros(40, np.int64)
        seats = seat(rng, dealt_, share, label, canvases=20, whole=1.0, steps=1, pairing=pairing)
        canvas = seats.canvas[seats.sample == 0]
        company |= set(seats.sample[seats.canvas == canvas]) - {0}
    assert len(company) >= 20
