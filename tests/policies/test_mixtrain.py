"""MixTrain fills its budget, trains small, shared, then whole, and gives area to the hard ones."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import losses_of, random_losses, relaxed, seeds, unseen
from hypothesis import assume, given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.policies import Budget, MixTrain, Run

fractions = st.floats(0, 1)
policies = st.builds(
    MixTrain,
    speedup=st.floats(1, 4),
    early=fractions,
    side=st.sampled_from([0.25, 0.5, 0.6, 0.9]),
    packed=st.booleans(),
    end=fractions,
    mixed=fractions,
    spread=st.floats(0, 0.2),
)
mixtrain_runs = st.builds(
    lambda samples, batch_size, cells, epochs: Run(samples, batch_size, 32 * cells, 32, epochs),
    samples=st.integers(1, 300),
    batch_size=st.integers(1, 256),
    cells=st.integers(1, 8),
    epochs=st.integers(1, 100),
)


def largest_speedup(policy: MixTrain, run: Run) -> float:
    """What the refusal of an impossible speed-up names."""
    with pytest.raises(MixloaderError, match="is impossible here") as caught:
        replace(policy, speedup=1000).budget(run, 0)
    assert "\n" not in str(caught.value)
    found = re.search(r"largest possible is ([\d.]+)", str(caught.value))
    assert found is not None
    return float(found[1])


@st.composite
def possible(draw: st.DrawFn) -> tuple[MixTrain, Run]:
    """A speed-up that the run can have, the smallest and the largest included."""
    policy, run = draw(policies), draw(mixtrain_runs)
    return replace(policy, speedup=1 + draw(fractions) * (largest_speedup(policy, run) - 1)), run


def schedule(policy: MixTrain, run: Run) -> list[Budget]:
    return [policy.budget(run, epoch) for epoch in range(run.epochs or 0)]


def passes(budgets: list[Budget], run: Run) -> float:
    """Whole-image passes of one batch in each epoch."""
    return sum(budget.canvases * run.area(budget.canvas_size) for budget in budgets)


def kinds(policy: MixTrain, run: Run) -> list[int]:
    """0 small, 1 shared, 2 whole, by epoch."""
    epochs = []
    for epoch, budget in enumerate(schedule(policy, run)):
        share = policy.allocate(run, epoch, unseen(run.samples), np.random.default_rng(0)).share
        small = budget.canvas_size < run.image_size or (policy.packed and (share == 0.25).all())
        epochs.append(0 if small else 2 if budget.canvases == run.batch_size else 1)
    return epochs


@relaxed
@given(possible())
def test_the_run_costs_its_budget_and_never_more(case: tuple[MixTrain, Run]) -> None:
    policy, run = case
    assert run.epochs is not None
    budgets = schedule(policy, run)
    budget = run.epochs * run.batch_size / policy.speedup
    cost = passes(budgets, run)
    assert cost <= budget * (1 + 1e-6)
    # Less is only spent where the epochs that are neither small nor whole cannot make up the difference.
    spare = budget - cost
    small = [b for b, kind in zip(budgets, kinds(policy, run), strict=True) if kind == 0]
    saved_by_one = run.batch_size - passes(small[:1], run) if small else 0
    assert spare < max(1, saved_by_one) + 1e-6
    if spare >= 1 + 1e-6:
        assert 1 not in kinds(policy, run)


@relaxed
@given(
    speedup=st.floats(1, 1.75),
    epochs=st.integers(8, 100),
    batch_size=st.integers(2, 300),
    packed=st.booleans(),
    early=st.floats(0, 0.5),
)
def test_a_run_that_can_share_spends_all_but_a_canvas(
    speedup: float, epochs: int, batch_size: int, packed: bool, early: float
) -> None:
    run = Run(1000, 2 * (batch_size // 2), 224, 32, epochs)
    policy = MixTrain(speedup=speedup, early=early, packed=packed)
    try:
        cost = passes(schedule(policy, run), run)
    except MixloaderError:
        assume(False)
    assert run.epochs is not None
    budget = run.epochs * run.batch_size / speedup
    middle = kinds(policy, run).count(1)
    assume(middle >= 2)  # fewer cannot make up for a last small epoch that was not needed in full
    assert budget - 1 - 1e-6 < cost <= budget + 1e-6


@relaxed
@given(possible())
def test_small_comes_first_then_shared_then_whole(case: tuple[MixTrain, Run]) -> None:
    policy, run = case
    assert run.epochs is not None
    order = kinds(policy, run)
    end = min(run.epochs, max(1, round(policy.end * run.epochs)))
    assert order[-end:] == [2] * end
    assert 0 not in order[order.count(0) :]
    assert order.count(0) <= round(policy.early * run.epochs)


@relaxed
@given(policy=policies, run=mixtrain_runs)
def test_an_impossible_speedup_names_the_largest_that_works(policy: MixTrain, run: Run) -> None:
    largest = largest_speedup(policy, run)
    schedule(replace(policy, speedup=largest), run)
    with pytest.raises(MixloaderError):
        schedule(replace(policy, speedup=largest + 0.0101), run)


RUN = Run(samples=400, batch_size=40, image_size=224, stride=32, epochs=16)
SHARED = MixTrain(speedup=1.3, early=0)


@relaxed
@given(seed=seeds, spread=st.floats(0, 0.2), epoch=st.integers(0, 13))
def test_the_lowest_losses_share_and_the_hardest_stay_whole(seed: int, spread: float, epoch: int) -> None:
    policy = MixTrain(speedup=1.3, early=0, spread=spread)
    losses = random_losses(seed, 400)
    share = policy.allocate(RUN, epoch, losses, np.random.default_rng(seed)).share
    pairs = share < 1
    assert pairs.sum() == 2 * (40 - policy.budget(RUN, epoch).canvases) * 10
    hardness = np.where(losses.known, losses.loss, np.inf)
    assert hardness[pairs].max() <= hardness[~pairs].min()
    by_loss = share[pairs][np.argsort(hardness[pairs], kind="stable")]
    finite = np.isfinite(np.sort(hardness[pairs]))
    assert (np.diff(by_loss[finite]) >= 0).all()
    assert share[pairs].min() == pytest.approx(0.5 - spread)
    assert share[pairs].max() == pytest.approx(0.5 + spread)


@pytest.mark.parametrize("unknown", ["never", "nan", "inf", "-inf"])
def test_a_sample_without_a_finite_loss_counts_as_hard(unknown: str) -> None:
    losses = losses_of(np.linspace(0, 1, 400))
    losses.loss[:20] = np.nan if unknown == "never" else float(unknown)
    losses.seen[:20] = -1 if unknown == "never" else 0
    share = SHARED.allocate(RUN, 5, losses, np.random.default_rng(0)).share
    assert (share[:20] == 1).all()
    assert share[20] == pytest.approx(1 / 3)


def test_before_any_loss_is_known_chance_decides_who_shares() -> None:
    shares = [SHARED.allocate(RUN, 0, unseen(400), np.random.default_rng(s)).share for s in (0, 1)]
    assert not np.array_equal(*shares)
    assert (shares[0] < 1).sum() == (shares[1] < 1).sum() > 0


def test_the_default_is_half_small_and_an_eighth_whole() -> None:
    run = Run(1280, 128, 224, 32, 80)
    order = kinds(MixTrain(speedup=2), run)
    assert order.count(0) == 40
    assert order[-10:] == [2] * 10
    assert {b.canvas_size for b in schedule(MixTrain(speedup=2), run)[:40]} == {128}


def test_a_budget_that_small_epochs_alone_meet_shares_next_to_nothing() -> None:
    run = Run(320, 32, 128, 32, 32)
    order = kinds(MixTrain(speedup=1 / (1 - 0.75 * 8 / 32)), run)
    assert order == [0] * 8 + [2] * 24


def test_packed_small_epochs_keep_one_canvas_size() -> None:
    run = Run(320, 32, 128, 32, 32)
    budgets = schedule(MixTrain(speedup=2, packed=True), run)
    assert {b.canvas_size for b in budgets} == {128}
    assert {b.canvases for b in budgets[:5]} == {8}


def test_a_canvas_of_one_cell_saves_nothing_by_sharing() -> None:
    run = Run(320, 32, 32, 32, 32)
    for packed in (False, True):
        with pytest.raises(MixloaderError, match=r"the largest possible is 1\.00"):
            MixTrain(speedup=1.5, packed=packed).budget(run, 0)
