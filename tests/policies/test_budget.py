"""What a policy promises before the run is what its plans cost."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import POLICIES, random_losses, random_sizes, relaxed, runs, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.controller import Controller
from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.policies import InfoBatch, Ladder, MixTrain, Naive, Policy, Progressive, Resolution, Run, Whole


def controller_of(policy: Policy, run: Run, seed: int = 0) -> Controller:
    """A controller whose ledger has seen some losses."""
    controller = Controller(policy, run, random_sizes(seed, run.samples), LossLedger(run.samples), seed=seed)
    losses = random_losses(seed, run.samples)
    controller.ledger.loss[:-1].copy_(controller.ledger.loss.new_tensor(losses.loss))
    controller.ledger.seen[:-1].copy_(controller.ledger.seen.new_tensor(losses.seen))
    return controller


@relaxed
@given(run=runs(epochs=8, least_batch=2), seed=seeds, policy=st.sampled_from(POLICIES))
def test_every_epoch_costs_what_was_promised(run: Run, seed: int, policy: Policy) -> None:
    if isinstance(policy, MixTrain) and run.batch_size < 8:
        policy = replace(policy, speedup=1.05)  # batches of 2 or 3 cannot save as much
    controller = controller_of(policy, run, seed)
    costs = []
    for epoch in range(8):
        plan, promised = controller.plan(epoch).whole(), controller.cost(epoch)
        costs.append(plan.cost)
        if promised is None:
            assert policy == InfoBatch()
            assert 0 < plan.cost <= run.steps * run.batch_size
        else:
            assert plan.cost == pytest.approx(promised, rel=1e-9)
    if policy != InfoBatch():
        assert controller.total_cost == pytest.approx(sum(costs), rel=1e-9)
    else:
        assert controller.total_cost is None


@pytest.mark.parametrize(
    ("policy", "cost"),
    [
        (Whole(), [320.0] * 8),
        (Naive(), [160.0] * 8),
        (Progressive(), [80.0] * 4 + [320.0] * 4),
        (Progressive(packed=True, until=0.25), [80.0] * 2 + [320.0] * 6),
        (InfoBatch(), [320.0, *[None] * 6, 320.0]),
    ],
    ids=repr,
)
def test_costs_by_hand(policy: Policy, cost: list[float | None]) -> None:
    controller = controller_of(policy, Run(320, 32, 128, 32, 8))
    assert [controller.cost(epoch) for epoch in range(8)] == cost


@pytest.mark.parametrize("policy", [Whole(), Naive()], ids=repr)
def test_a_policy_without_a_schedule_needs_no_length(policy: Policy) -> None:
    controller = controller_of(policy, Run(320, 32, 128, 32, None))
    assert controller.total_cost is None
    assert controller.cost(1000) == controller.plan(1000).whole().cost


@pytest.mark.parametrize("policy", [MixTrain(), Progressive(), InfoBatch()], ids=repr)
def test_a_policy_with_a_schedule_asks_for_the_length_of_the_run(policy: Policy) -> None:
    with pytest.raises(MixloaderError, match=f"{type(policy).__name__} spreads a budget .* epochs="):
        controller_of(policy, Run(320, 32, 128, 32, None))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("epoch", [0, 3, 7, 15])
def test_a_policy_decides_by_losses_and_chance_alone(policy: Policy, epoch: int) -> None:
    run, losses = Run(200, 20, 128, 32, 16), random_losses(3, 200)
    first, again = (policy.allocate(run, epoch, losses, np.random.default_rng(1)) for _ in range(2))
    assert (first.canvas_size, first.mixing, first.view) == (again.canvas_size, again.mixing, again.view)
    assert np.array_equal(first.share, again.share)
    assert np.array_equal(first.weight, again.weight)
    first.check(run)
    assert (first.share.dtype, first.weight.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_policy_is_a_frozen_value(policy: Policy) -> None:
    assert isinstance(policy, Policy)
    assert hash(policy) == hash(replace(policy))  # type: ignore[type-var]
    for field in dataclasses.fields(policy):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(policy, field.name, None)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Naive, "mixing", "stir"),
        (Naive, "view", "side"),
        (Progressive, "until", -0.1),
        (Progressive, "until", 1.1),
        (Progressive, "until", float("nan")),
        (Progressive, "side", 0.0),
        (Progressive, "side", 1.5),
        (InfoBatch, "prune", 1.0),
        (InfoBatch, "prune", -0.5),
        (InfoBatch, "full", 1.5),
        (MixTrain, "speedup", 0.9),
        (MixTrain, "speedup", float("inf")),
        (MixTrain, "speedup", float("nan")),
        (MixTrain, "selection", 1.1),
        (Ladder, "half", 2.0),
        (Ladder, "spread", 0.3),
        (Ladder, "spread", -0.1),
        (Resolution, "side", 0.0),
        (Resolution, "end", -0.1),
        (MixTrain, "speedup", "1.8"),
        (MixTrain, "speedup", None),
        (MixTrain, "selection", "half"),
        (Progressive, "until", None),
        (InfoBatch, "prune", "half"),
        (Naive, "mixing", 3),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_with_its_value(kind: type, name: str, value: object) -> None:
    with pytest.raises(MixloaderError, match=rf"{kind.__name__}: {name} must be .*{value}") as caught:
        kind(**{name: value})
    assert "\n" not in str(caught.value)
