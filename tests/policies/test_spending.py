"""A budget is spent to the last whole canvas, evenly, and one that cannot be is refused with the largest that can."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.runs import relaxed
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.policies import InfoBatch, Policy, Progressive, Run, SelectiveBackprop, Whole
from mixloader.policies.spending import portion, spend

sizes, lengths, wholes = st.integers(1, 130), st.integers(1, 60), st.integers(0, 12)


def run_of(batch_size: int, epochs: int) -> Run:
    return Run(samples=500, batch_size=batch_size, image_size=64, stride=32, epochs=epochs)


@relaxed
@given(total=st.floats(0, 1e5), parts=st.integers(1, 100))
def test_portions_are_even_whole_numbers_that_sum_to_the_total(total: float, parts: int) -> None:
    portions = portion(total, parts)
    assert len(portions) == parts
    assert total - 1 < sum(portions) <= total + 1e-6
    assert max(portions) - min(portions) <= 1
    assert portion(total, parts) == portions


@relaxed
@given(each=st.integers(0, 300), parts=st.integers(1, 100))
def test_a_total_that_can_be_shared_evenly_is(each: int, parts: int) -> None:
    assert portion(float(each * parts), parts) == [each] * parts
    assert portion(0.1 * each * parts * 10, parts) == [each] * parts  # float dust costs nobody a canvas


def test_portions_by_hand() -> None:
    assert portion(7.9, 3) == [2, 3, 2]
    assert portion(0.5, 2) == [0, 0]
    assert portion(5, 0) == []


@relaxed
@given(size=sizes, epochs=lengths, first=wholes, last=wholes, speedup=st.floats(1, 20))
def test_the_run_costs_its_budget_to_less_than_a_canvas(
    size: int, epochs: int, first: int, last: int, speedup: float
) -> None:
    try:
        spent = spend(Whole(), run_of(size, epochs), speedup, whole_first=first, whole_last=last)
    except MixloaderError:
        return
    assert len(spent) == epochs
    budget = size * epochs / speedup
    assert budget - 1 - 1e-6 < sum(spent) <= budget + 1e-6
    assert all(1 <= canvases <= size for canvases in spent)
    assert set(spent[:first]) <= {size}
    assert set(spent[max(0, epochs - last) :]) <= {size}
    between = spent[first : epochs - last]
    assert not between or max(between) - min(between) <= 1


@relaxed
@given(size=sizes, epochs=lengths, first=wholes, last=wholes)
def test_an_impossible_speedup_names_the_largest_that_works(size: int, epochs: int, first: int, last: int) -> None:
    run = run_of(size, epochs)
    with pytest.raises(MixloaderError, match=r"Whole: speedup=1000 is impossible with") as caught:
        spend(Whole(), run, 1000, whole_first=first, whole_last=last)
    assert "\n" not in str(caught.value)
    found = re.search(r"largest possible is (\d+\.\d\d)$", str(caught.value))
    assert found is not None
    spend(Whole(), run, float(found[1]), whole_first=first, whole_last=last)
    with pytest.raises(MixloaderError):
        spend(Whole(), run, float(found[1]) + 0.0101, whole_first=first, whole_last=last)


@relaxed
@given(size=sizes, epochs=lengths, first=wholes, last=wholes)
def test_a_speedup_of_one_is_plain_training(size: int, epochs: int, first: int, last: int) -> None:
    assert spend(Whole(), run_of(size, epochs), 1, whole_first=first, whole_last=last) == [size] * epochs


@relaxed
@given(
    kind=st.sampled_from([InfoBatch, SelectiveBackprop, Progressive]),
    size=st.integers(2, 130),
    epochs=lengths,
    part=st.floats(0, 1),
)
def test_a_speedup_of_one_is_plain_training_for_every_policy_that_takes_it(
    kind: Any, size: int, epochs: int, part: float
) -> None:
    run = run_of(size, epochs)
    policy: Policy = kind(speedup=1, **{"end" if kind is Progressive else "full": part})
    budgets = [policy.budget(run, epoch) for epoch in range(epochs)]
    assert [budget and (budget.canvas_size, budget.canvases) for budget in budgets] == [(64, size)] * epochs


@pytest.mark.parametrize("kind", [InfoBatch, SelectiveBackprop, Progressive])
@pytest.mark.parametrize("value", [0.9, 0, -2, float("inf"), float("nan"), "1.8", True, (2,)], ids=str)
def test_what_is_no_speedup_is_refused_with_its_value(kind: Any, value: object) -> None:
    with pytest.raises(MixloaderError) as caught:
        kind(speedup=value)
    assert str(caught.value) == f"{kind.__name__}: speedup must be a number of at least 1, got {value!r}"
