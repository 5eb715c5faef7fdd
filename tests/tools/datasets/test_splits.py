from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixloader.tools.datasets.splits import PARTS, deal_groups

SIZES = st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 60), min_size=3, max_size=20)


@given(SIZES, st.integers(0, 9))
def test_each_group_is_dealt_and_no_split_stays_empty(sizes: dict[str, int], seed: int) -> None:
    dealt = deal_groups(sizes, seed)
    assert dealt.keys() == sizes.keys()
    assert set(dealt.values()) == set(PARTS)


@given(SIZES, st.randoms())
def test_the_order_of_the_groups_does_not_matter(sizes: dict[str, int], random: Random) -> None:
    items = list(sizes.items())
    random.shuffle(items)
    assert deal_groups(dict(items)) == deal_groups(sizes)


def test_many_groups_come_out_in_proportion() -> None:
    sizes = {f"group {i}": 1 + i % 7 for i in range(100)}
    dealt = deal_groups(sizes)
    total = sum(sizes.values())
    for split, part in PARTS.items():
        got = sum(size for name, size in sizes.items() if dealt[name] == split)
        assert got / total == pytest.approx(part, abs=0.01)


def test_the_seed_deals_equals_anew() -> None:
    sizes = {f"group {i}": 1 for i in range(20)}
    assert deal_groups(sizes, 0) != deal_groups(sizes, 1)


def test_two_groups_are_too_few() -> None:
    with pytest.raises(ValueError, match="2 groups cannot be dealt to 3 splits"):
        deal_groups({"a": 1, "b": 2})
