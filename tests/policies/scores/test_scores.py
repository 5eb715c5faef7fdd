"""Scores: 0 to 1 for every sample, rising with what they follow, and most for whom nothing is known of."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from helpers.runs import losses_of, random_losses, relaxed, seeds, unseen
from hypothesis import given
from hypothesis import strategies as st

from mixloader.ledger import Losses
from mixloader.policies.scores import Blend, ByChance, ByClass, ByLoss, ByStaleness, ByTrend, Needs, Score

SCORES: list[Score] = [
    ByLoss(),
    ByTrend(),
    ByStaleness(),
    ByClass(),
    ByChance(),
    Blend((ByLoss(), ByStaleness())),
    Blend((ByTrend(), ByClass(), ByChance()), (3, 0.5, 1)),
]
scores = st.sampled_from(SCORES)


def needs_of(score: Score, losses: Losses, seed: int = 0, epoch: int = 3) -> Needs:
    return score.needs(losses, epoch, np.random.default_rng(seed))


@relaxed
@given(score=scores, seed=seeds, samples=st.integers(1, 300), unknown=st.sampled_from([0, 0.1, 0.9, 1]))
def test_every_sample_needs_0_to_1(score: Score, seed: int, samples: int, unknown: float) -> None:
    needs = needs_of(score, random_losses(seed, samples, unknown), seed)
    assert needs.shape == (samples,)
    assert needs.dtype == np.float64
    assert ((needs >= 0) & (needs <= 1)).all()


@relaxed
@given(score=scores, seed=seeds, samples=st.integers(1, 300))
def test_needs_follow_from_losses_and_chance_alone(score: Score, seed: int, samples: int) -> None:
    losses = random_losses(seed, samples)
    before = replace(losses, **{field.name: getattr(losses, field.name).copy() for field in fields(losses)})
    assert np.array_equal(needs_of(score, losses, seed), needs_of(score, losses, seed))
    for field in fields(losses):
        assert np.array_equal(getattr(losses, field.name), getattr(before, field.name), equal_nan=True)


@pytest.mark.parametrize("score", SCORES, ids=repr)
def test_before_any_loss_is_known_chance_alone_decides(score: Score) -> None:
    first, other = (needs_of(score, unseen(50), seed, epoch=0) for seed in range(2))
    assert not np.array_equal(first, other)
    mean = np.mean([needs_of(score, unseen(5), seed, epoch=0) for seed in range(2000)], axis=0)
    assert mean == pytest.approx([0.5] * 5, abs=0.05)


@pytest.mark.parametrize("score", SCORES, ids=repr)
def test_a_score_is_a_frozen_value(score: Score) -> None:
    assert isinstance(score, Score)
    assert hash(score) == hash(replace(score))  # type: ignore[type-var]
    for field in fields(score):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(score, field.name, None)


@relaxed
@given(seed=seeds, samples=st.integers(1, 300))
def test_by_loss_needs_rise_with_the_loss(seed: int, samples: int) -> None:
    losses = random_losses(seed, samples)
    needs = needs_of(ByLoss(), losses, seed)
    hardness = np.where(losses.known, losses.loss, np.inf)
    assert (np.diff(hardness[np.argsort(needs)].clip(max=1e30)) >= 0).all()


@relaxed
@given(seed=seeds, samples=st.integers(1, 300))
def test_by_trend_needs_rise_with_the_change_of_the_loss(seed: int, samples: int) -> None:
    losses = random_losses(seed, samples)
    needs = needs_of(ByTrend(), losses, seed)
    twice = losses.known & np.isfinite(losses.previous)
    change = np.where(twice, losses.loss - np.where(twice, losses.previous, 0), 1e30)
    assert (np.diff(np.where(twice, change, 1e30)[np.argsort(needs)]) >= 0).all()


@relaxed
@given(seed=seeds, samples=st.integers(1, 300), epoch=st.integers(3, 10))
def test_by_staleness_needs_rise_with_the_epochs_since_a_whole_canvas(seed: int, samples: int, epoch: int) -> None:
    losses = random_losses(seed, samples)
    needs = needs_of(ByStaleness(), losses, seed, epoch)
    assert (np.diff(losses.whole[np.argsort(needs)]) <= 0).all()  # who never had one holds -1: last of all


@relaxed
@given(seed=seeds, samples=st.integers(1, 300))
def test_by_class_needs_rise_with_the_loss_within_a_class(seed: int, samples: int) -> None:
    losses = random_losses(seed, samples)
    needs = needs_of(ByClass(), losses, seed)
    hardness = np.where(losses.known, losses.loss, np.inf).clip(max=1e30)
    for label in np.unique(losses.label):
        of_class = losses.label == label
        assert (np.diff(hardness[of_class][np.argsort(needs[of_class])]) >= 0).all()


@relaxed
@given(seed=seeds, samples=st.integers(1, 300), part=st.floats(0, 1))
def test_by_class_every_class_gives_up_the_same_part(seed: int, samples: int, part: float) -> None:
    losses = random_losses(seed, samples)
    easiest = np.argsort(needs_of(ByClass(), losses, seed), kind="stable")[: round(part * samples)]
    asked = len(easiest) / samples
    size, taken = np.bincount(losses.label, minlength=5), np.bincount(losses.label[easiest], minlength=5)
    assert (np.abs(taken - asked * size) <= 1 + 1e-9).all()


def test_by_class_an_easy_class_and_a_hard_one_give_up_alike() -> None:
    losses = replace(losses_of([0.1, 0.2, 0.3, 0.4, 5, 6, 7, 8]), label=np.repeat([0, 3], 4))
    by_class = needs_of(ByClass(), losses)
    assert by_class.tolist() == [0.125, 0.375, 0.625, 0.875] * 2
    assert needs_of(ByLoss(), losses)[:4].max() < needs_of(ByLoss(), losses)[4:].min()


@pytest.mark.parametrize("score", [ByLoss(), ByTrend(), ByClass(), Blend((ByLoss(), ByTrend()))], ids=repr)
@pytest.mark.parametrize("unknown", ["never", "nan", "inf", "-inf"])
def test_a_sample_without_a_finite_loss_needs_most(score: Score, unknown: str) -> None:
    losses = replace(losses_of(np.linspace(0, 1, 40)), previous=np.full(40, 0.5, np.float32))
    losses.loss[:5] = np.nan if unknown == "never" else float(unknown)
    losses.seen[:5] = -1 if unknown == "never" else 0
    needs = needs_of(score, losses)
    assert needs[:5].min() > needs[5:].max()


@pytest.mark.parametrize("previous", [np.nan, np.inf, -np.inf])
def test_by_trend_a_sample_with_one_loss_needs_most(previous: float) -> None:
    losses = replace(losses_of(np.linspace(0, 1, 40)), previous=np.full(40, 0.5, np.float32))
    losses.previous[:5] = previous
    needs = needs_of(ByTrend(), losses)
    assert needs[:5].min() > needs[5:].max()


def test_by_trend_what_is_forgotten_comes_before_what_was_always_hard() -> None:
    losses = replace(losses_of([3.0, 0.5, 0.1]), previous=np.array([3.5, 0.1, 0.1], np.float32))
    assert needs_of(ByTrend(), losses).tolist() == [0, 1, 0.5]


def test_by_chance_every_draw_is_another() -> None:
    rng, losses = np.random.default_rng(0), losses_of(np.linspace(0, 1, 2000))
    first, second = (ByChance().needs(losses, epoch, rng) for epoch in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    assert abs(np.corrcoef(first, losses.loss)[0, 1]) < 0.1
