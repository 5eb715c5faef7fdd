"""Ranking: ids by value, ties by chance, what is not known last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixloader.policies.scores import ascending, percentile

floats = arrays(np.float32, st.integers(1, 60), elements=st.floats(-3, 3, width=32) | st.sampled_from([0, np.nan]))
integers = arrays(np.int64, st.integers(1, 60), elements=st.integers(-2, 4))
Values = npt.NDArray[np.float32] | npt.NDArray[np.int64]


@relaxed
@given(values=floats | integers, seed=seeds)
def test_every_id_comes_once_by_value_and_nan_comes_last(values: Values, seed: int) -> None:
    order = ascending(values, np.random.default_rng(seed))
    assert np.array_equal(np.sort(order), np.arange(len(values)))
    sorted_values = values[order]
    known = ~np.isnan(sorted_values)
    assert (np.diff(sorted_values[known]) >= 0).all()
    assert not known[known.sum() :].any()


@relaxed
@given(values=floats | integers, seed=seeds)
def test_percentiles_are_evenly_spaced_from_0_to_1_in_the_order_of_the_values(values: Values, seed: int) -> None:
    rank = percentile(values, np.random.default_rng(seed))
    assert rank.dtype == np.float64
    assert np.allclose(np.sort(rank), np.linspace(0, 1, len(values)))
    known = ~np.isnan(values)
    assert rank[known].max(initial=0) <= rank[~known].min(initial=1)
    low, high = values[known][:, None] < values[known], rank[known][:, None] < rank[known]
    assert (high | ~low).all()


@relaxed
@given(values=floats, seed=seeds)
def test_the_same_chance_gives_the_same_order(values: npt.NDArray[np.float32], seed: int) -> None:
    first, again = (ascending(values, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_ties_are_broken_by_chance_evenly(value: float) -> None:
    rng = np.random.default_rng(0)
    ranks = np.array([percentile(np.full(4, value), rng) for _ in range(4000)])
    assert ranks.mean(axis=0) == pytest.approx([0.5] * 4, abs=0.03)  # 5 standard errors of a uniform rank


def test_one_value_alone_ranks_0() -> None:
    assert percentile(np.array([np.nan]), np.random.default_rng(0)).tolist() == [0]
