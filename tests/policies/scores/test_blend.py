"""A blend is the weighted mean of its scores, and takes nothing else for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.runs import random_losses, relaxed, seeds, unseen
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.policies.scores import Blend, ByChance, ByClass, ByLoss, ByStaleness, Needs


class Fixed:
    """A score of somebody else's: the same for every sample."""

    def __init__(self, value: float) -> None:
        self.value = value

    def needs(self, losses: Losses, epoch: int, rng: np.random.Generator) -> Needs:
        return np.full(len(losses), self.value)


parts = st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=5)


@relaxed
@given(parts=parts)
def test_it_is_the_weighted_mean(parts: list[tuple[float, float]]) -> None:
    blend = Blend(tuple(Fixed(value) for value, _ in parts), tuple(weight for _, weight in parts))
    by_hand = sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
    assert blend.needs(unseen(3), 0, np.random.default_rng(0)) == pytest.approx([by_hand] * 3)


@relaxed
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_without_weights_all_weigh_alike(values: list[float]) -> None:
    blend = Blend(tuple(map(Fixed, values)))
    assert blend.needs(unseen(1), 0, np.random.default_rng(0)) == pytest.approx([np.mean(values)])


@relaxed
@given(seed=seeds)
def test_the_weight_decides_whom_it_follows(seed: int) -> None:
    losses = random_losses(seed, 200)

    def agreement(weights: tuple[float, float]) -> float:
        needs = Blend((ByLoss(), ByChance()), weights).needs(losses, 3, np.random.default_rng(seed))
        loss: npt.NDArray[np.float64] = ByLoss().needs(losses, 3, np.random.default_rng(seed))
        return float(np.corrcoef(needs, loss)[0, 1])

    assert agreement((9, 1)) > agreement((1, 1)) > agreement((1, 9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "at least one score"),
        ((ByLoss(),), r"a tuple .* got ByLoss\(\)"),
        (([ByLoss()],), r"a tuple .* got \[ByLoss\(\)\]"),
        (((ByLoss,),), "ByLoss'> is no score: pass instances"),
        (((ByLoss(), "loss"),), "'loss' is no score"),
        (((ByLoss(), None),), "None is no score"),
        (((ByLoss(), ByClass()), (1,)), "2 scores and 1 weights"),
        (((ByLoss(),), (1, 2)), "1 scores and 2 weights"),
        (((ByLoss(), ByStaleness()), (1, 0)), r"above 0, got \(1, 0\)"),
        (((ByLoss(), ByStaleness()), (1, -2)), r"above 0, got \(1, -2\)"),
        (((ByLoss(), ByStaleness()), (1, float("nan"))), r"above 0, got \(1, nan\)"),
        (((ByLoss(), ByStaleness()), (1, float("inf"))), r"above 0, got \(1, inf\)"),
        (((ByLoss(), ByStaleness()), (1, "2")), r"above 0, got \(1, '2'\)"),
        (((ByLoss(), ByStaleness()), [1, 2]), r"a tuple .* got \[1, 2\]"),
        (((ByLoss(),), 2), "a tuple .* got 2"),
    ],
    ids=str,
)
def test_nonsense_is_refused_with_what_was_given(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(MixloaderError, match=f"Blend: .*{message}") as caught:
        Blend(*arguments)
    assert "\n" not in str(caught.value)
