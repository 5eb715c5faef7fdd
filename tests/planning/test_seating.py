"""Seating: every canvas one to four samples of one batch, who sits with whom as the pairing says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.planning.block import Decided, draw_block
from mixloader.planning.deal import Deal
from mixloader.policies import Allocation, Run
from mixloader.policies.policy import Pairing

pairings = st.sampled_from(["opposite", "random", "classes"])


@dataclass(frozen=True)
class Case:
    """Samples of some batches, by batch and then largest share first, and canvases that can hold them."""

    sample: npt.NDArray[np.int64]
    batch: npt.NDArray[np.int64]
    share: npt.NDArray[np.float32]  # of every sample, above 0
    canvases: int
    steps: int = 1

    @classmethod
    def of_one_batch(cls, share: npt.NDArray[np.float32], canvases: int) -> Case:
        """A batch of these shares, which fall."""
        return cls(np.arange(len(share)), np.zeros(len(share), np.int64), share, canvases)


@dataclass(frozen=True)
class Seats:
    """Of a plan, who sits where."""

    sample: npt.NDArray[np.int64]
    canvas: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int8]

    @property
    def together(self) -> npt.NDArray[np.int64]:
        """How many are on the same canvas."""
        return np.bincount(self.canvas)[self.canvas]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=6))
    batch = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(draw(seeds))
    share = rng.choice(np.array([0.1, 0.25, 0.29, 0.5, 1], np.float32), len(batch))
    canvases = draw(st.integers(-(-max(sizes) // 4), max(*sizes, 1) + 3))
    return Case(np.lexsort((-share, batch)), batch, share, canvases, len(sizes))


def take_seats(case: Case, *, pairing: Pairing = "opposite", label: np.ndarray | None = None, seed: int = 0) -> Seats:
    size = max(1, np.bincount(case.batch, minlength=1).max())
    run = Run(size * case.steps, size, image_size=64, stride=1, epochs=None)
    start = np.searchsorted(case.batch, np.arange(case.steps + 1))
    small = np.bincount(case.batch[case.share[case.sample] < 0.3], minlength=case.steps)
    plan = draw_block(
        Decided(
            Allocation(64, case.share, np.ones(run.samples, np.float32), pairing=pairing),
            run,
            Deal(case.sample.astype(np.uint32), start, small),
            case.canvases,
            np.full((run.samples, 2), 100, np.int32),
            label,
            None,
            seed,
            0,
        ),
        block=0,
        rank=0,
        ranks=1,
    )
    return Seats(plan.sample, plan.canvas, plan.slot)


@relaxed
@given(case=cases(), pairing=pairings)
def test_everyone_with_a_share_is_seated_in_their_own_batch(case: Case, pairing: Pairing) -> None:
    seats = take_seats(case, pairing=pairing)
    assert np.array_equal(np.sort(seats.sample), np.arange(len(case.share)))
    assert np.array_equal(seats.canvas // case.canvases, case.batch[seats.sample])


@relaxed
@given(case=cases(), pairing=pairings)
def test_a_crowded_batch_fills_every_canvas_and_a_sparse_one_sits_alone(case: Case, pairing: Pairing) -> None:
    seats = take_seats(case, pairing=pairing)
    together = np.bincount(seats.canvas, minlength=case.canvases * case.steps).reshape(case.steps, case.canvases)
    for row in together:
        assert row.max(initial=0) <= 4
        assert row.sum() <= case.canvases or row.min() >= 1
        assert row.sum() > case.canvases or row.max(initial=0) <= 1
        assert (row == 3).sum() <= 1


@relaxed
@given(case=cases(), pairing=pairings)
def test_the_largest_shares_sit_alone_and_the_smallest_in_fours(case: Case, pairing: Pairing) -> None:
    seats = take_seats(case, pairing=pairing)
    for b in range(case.steps):
        here = seats.canvas // case.canvases == b
        by_company = [case.share[seats.sample[here & (seats.together == k)]] for k in (1, 2)]
        crowd = case.share[seats.sample[here & (seats.together >= 3)]]
        for larger, smaller in ((by_company[0], by_company[1]), (by_company[0], crowd), (by_company[1], crowd)):
            assert len(larger) == 0 or len(smaller) == 0 or larger.min() >= smaller.max()


@relaxed
@given(case=cases(), pairing=pairings)
def test_slots_count_up_from_the_largest_share_of_a_canvas(case: Case, pairing: Pairing) -> None:
    seats = take_seats(case, pairing=pairing)
    for canvas in np.unique(seats.canvas):
        here = seats.canvas == canvas
        assert seats.slot[here].tolist() == list(range(here.sum()))
        assert (np.diff(case.share[seats.sample[here]]) <= 0).all()


def test_halves_and_quarters_sit_as_they_ask() -> None:
    share = np.array([1, 1, 0.5, 0.5, 0.5, 0.5, *[0.25] * 8], np.float32)
    assert np.bincount(take_seats(Case.of_one_batch(share, 6)).canvas).tolist() == [1, 1, 2, 2, 4, 4]


def test_opposite_pairs_seat_the_largest_share_with_the_smallest() -> None:
    seats = take_seats(Case.of_one_batch(np.linspace(1, 0.35, 14).astype(np.float32), 7))
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
    case = Case.of_one_batch(np.full(count, 1 / k, np.float32), pairs)
    seats = take_seats(case, pairing="classes", label=label)
    for company in label[seats.sample].reshape(pairs, k):
        assert len(set(company)) == k


@pytest.mark.parametrize("pairing", ["random", "classes"])
def test_the_other_pairings_are_chance(pairing: Pairing) -> None:
    case, label = Case.of_one_batch(np.linspace(0.6, 0.4, 40).astype(np.float32), 20), np.arange(40) % 4
    company = set()
    for seed in range(60):
        seats = take_seats(case, pairing=pairing, label=label, seed=seed)
        canvas = seats.canvas[seats.sample == 0]
        company |= set(seats.sample[seats.canvas == canvas]) - {0}
    assert len(company) >= 20


def test_no_two_classes_always_sit_together() -> None:
    case, label = Case.of_one_batch(np.full(40, 0.5, np.float32), 20), np.arange(40) % 4
    company = set()
    for seed in range(60):
        seats = take_seats(case, pairing="classes", label=label, seed=seed)
        company |= {tuple(sorted(pair)) for pair in label[seats.sample].reshape(20, 2).tolist()}
    assert company == {(a, b) for a in range(4) for b in range(a + 1, 4)}
