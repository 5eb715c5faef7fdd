"""Order: every id once, by chance or by value, also past the entries that are worked on at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixloader import order
from mixloader.order import (
    Shuffle,
    ascending,
    gather,
    lower,
    rising,
    shuffled,
    shuffled_rows,
    sort_with_places,
    sorted_ids,
    upper,
)

floats = arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, np.inf]),
)
words = arrays(np.uint32, st.integers(0, 60), elements=st.integers(0, 2**32 - 1) | st.integers(0, 3))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "CHUNK", 16)


@relaxed
@given(seed=seeds, rows=st.integers(1, 4), count=st.integers(1, 70))
def test_a_shuffle_holds_every_number_once(seed: int, rows: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    assert np.array_equal(np.sort(shuffled(rng, count)), np.arange(count))
    assert (np.sort(shuffled_rows(rng, rows, count), axis=1) == np.arange(count)).all()


def test_every_order_comes_up_about_as_often() -> None:
    rows = shuffled_rows(np.random.default_rng(0), 24_000, 4)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 840  # 5 standard deviations below 1000
    assert counts.max() < 1160


@relaxed
@given(keys=words)
def test_equal_keys_stay_as_they_come(keys: npt.NDArray[np.uint32]) -> None:
    sorted_ = keys.astype(np.uint64) | np.uint64(7 << 32)  # what is above is dropped
    sort_with_places(sorted_)
    assert np.array_equal(lower(sorted_), np.argsort(keys, kind="stable"))
    assert np.array_equal(upper(sorted_), np.sort(keys))


@relaxed
@given(values=floats, seed=seeds, falling=st.booleans())
def test_ids_come_by_value(values: npt.NDArray[np.float32], seed: int, falling: bool) -> None:
    wanted = -values if falling else values
    numbered = sorted_ids(values, None, falling=falling)
    assert np.array_equal(lower(numbered), np.argsort(wanted, kind="stable"))
    chance = sorted_ids(values, Shuffle.draw(np.random.default_rng(seed)), falling=falling)
    assert np.array_equal(np.sort(lower(chance)), np.arange(len(values)))
    assert np.array_equal(wanted[lower(chance)], np.sort(wanted))
    for keys in (numbered, chance):
        heights, by_value = upper(keys), wanted[lower(keys)]
        assert np.array_equal(heights[1:] != heights[:-1], by_value[1:] != by_value[:-1])


@relaxed
@given(ids=words, seed=seeds)
def test_a_shuffle_can_be_undone(ids: npt.NDArray[np.uint32], seed: int) -> None:
    shuffle, images = Shuffle.draw(np.random.default_rng(seed)), ids.copy()
    shuffle.mix(images)
    assert len(np.unique(images)) == len(np.unique(ids))
    shuffle.unmix(images)
    assert np.array_equal(images, ids)


def test_every_shuffle_of_a_few_comes_up_about_as_often() -> None:
    rng = np.random.default_rng(0)
    _, counts = np.unique([shuffled(rng, 4) for _ in range(24_000)], axis=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 840  # 5 standard deviations below 1000
    assert counts.max() < 1160


def test_shuffles_of_many_are_like_chance() -> None:
    """Places are uniform, neighbours are strangers, and two shuffles have nothing in common."""
    rng, count = np.random.default_rng(0), 100_000
    ids, other = (shuffled(rng, count).astype(np.int64) for _ in range(2))
    for one, two in ((ids, np.arange(count)), (ids, other), (ids[1:], ids[:-1])):
        assert abs(np.corrcoef(one, two)[0, 1]) < 5 / count**0.5
    assert (np.abs(np.diff(ids)) == 1).sum() < 12  # 2 are expected
    tenths = np.histogram2d(np.arange(count), ids, bins=20)[0] / (count / 400)
    assert np.square(tenths - 1).sum() * (count / 400) == pytest.approx(361, abs=5 * (2 * 361) ** 0.5)


@relaxed
@given(values=floats)
def test_floats_lie_as_their_whole_numbers_do(values: npt.NDArray[np.float32]) -> None:
    whole, (number, where) = rising(values), np.unique(values, return_inverse=True)
    assert np.array_equal(np.unique(whole, return_inverse=True)[1], where)
    assert len(np.unique(whole)) == len(number)


def test_what_is_no_number_lies_above_all() -> None:
    whole = rising(np.array([np.nan, np.inf, -np.nan, -np.inf, 0], np.float32))
    assert whole[0] == whole[2] > whole[1] > whole[4] > whole[3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_a_million_ids_come_by_value(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1000, 1_000_000).astype(dtype)
    ids = ascending(values, rng)
    assert (np.diff(values[ids]) >= 0).all()
    assert np.array_equal(np.sort(ids), np.arange(len(values)))
    first = ids[: np.count_nonzero(values == 0)].astype(np.int64)
    assert abs((np.diff(first) > 0).mean() - 0.5) < 0.1  # ties by chance


@relaxed
@given(seed=seeds, count=st.integers(0, 70))
def test_gathering_is_indexing(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    values, ids = rng.random(100), rng.integers(0, 100, count).astype(np.uint32)
    assert np.array_equal(gather(values, ids), values[ids])
