"""The controller plans a run from policy, seed, epoch and ledger, and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import PAIRS, POLICIES, columns_of, random_losses, random_sizes, relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.controller import Controller
from mixloader.errors import MixloaderError
from mixloader.ledger import Losses, LossLedger
from mixloader.planning import Augment
from mixloader.policies import Allocation, Budget, MixTrain, Naive, Policy, Run, Whole
from mixloader.policies.scores import ByLoss

RUN = Run(samples=90, batch_size=20, image_size=128, stride=32, epochs=8)


def controller(policy: Policy | None = None, **options: Any) -> Controller:
    run = options.pop("run", RUN)
    ledger = LossLedger(run.samples, fingerprint=options.pop("fingerprint", "abc"))
    return Controller(policy or PAIRS, run, random_sizes(0, run.samples), ledger, **options)


def train(planner: Controller, epoch: int) -> None:
    """Record losses for what the epoch drew."""
    planner.ledger.begin(epoch)
    drawn = planner.plan(epoch).whole().sample
    losses = random_losses(epoch, RUN.samples, unknown=0).loss[drawn]
    planner.ledger.record(torch.from_numpy(drawn), torch.from_numpy(losses))


@pytest.mark.parametrize("policy", [Whole, MixTrain, "whole", None, 1.8, object()])
def test_what_is_no_policy_is_refused_with_an_example(policy: Any) -> None:
    with pytest.raises(MixloaderError, match=r"pass an instance, such as Whole\(\)") as caught:
        Controller(policy, RUN, random_sizes(0, 90), LossLedger(90))
    assert "\n" not in str(caught.value)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(MixloaderError, match="seed must be at least 0, got -1"):
        controller(seed=-1)


def test_a_policy_that_cannot_be_met_is_refused_before_the_run() -> None:
    with pytest.raises(MixloaderError, match="is impossible here"):
        controller(MixTrain(speedup=50))


@pytest.mark.parametrize("epoch", [8, 100])
def test_an_epoch_outside_the_run_is_refused(epoch: int) -> None:
    planner = controller()
    for call in (planner.plan, planner.budget, planner.cost):
        with pytest.raises(
            MixloaderError, match=rf"epoch {epoch} is outside the run: .* epochs=8 \(0 to 7\)"
        ) as caught:
            call(epoch)
        assert "\n" not in str(caught.value)


@relaxed
@given(seed=seeds, policy=st.sampled_from(POLICIES))
def test_a_resumed_run_makes_the_same_plans(seed: int, policy: Policy) -> None:
    first = controller(policy, seed=seed)
    for epoch in range(3):
        train(first, epoch)
    resumed = controller(policy, seed=seed)
    resumed.load_state_dict(first.state_dict())
    for epoch in range(3, 6):
        assert columns_of(resumed.plan(epoch).whole()) == columns_of(first.plan(epoch).whole())
        train(first, epoch)
        train(resumed, epoch)


def test_the_plan_follows_the_ledger() -> None:
    one, other = controller(), controller()
    train(one, 0)
    assert columns_of(one.plan(1).whole()) != columns_of(other.plan(1).whole())


def test_planning_only_reads_the_ledger() -> None:
    """Whoever looks at the plan of a later epoch must not change what is recorded in this one."""
    planner = controller()
    train(planner, 2)
    before = planner.ledger.snapshot()
    planner.plan(5)
    planner.plan(6, random_losses(1, RUN.samples))
    after = planner.ledger.snapshot()
    assert np.array_equal(before.loss, after.loss)
    assert np.array_equal(before.seen, after.seen)
    assert int(planner.ledger.now) == 2


@relaxed
@given(seed=seeds, epoch=st.integers(0, 7), policy=st.sampled_from(POLICIES))
def test_a_plan_follows_the_losses_that_are_given_instead_of_the_ledger(seed: int, epoch: int, policy: Policy) -> None:
    planner, other = controller(policy, seed=seed), controller(policy, seed=seed)
    train(planner, 0)
    expected, losses = columns_of(planner.plan(epoch).whole()), planner.ledger.snapshot()
    train(planner, 1)
    assert columns_of(planner.plan(epoch, losses).whole()) == expected
    assert columns_of(other.plan(epoch, losses).whole()) == expected


@pytest.mark.parametrize("augment", [True, Augment, "crop"])
def test_what_is_no_augment_is_refused(augment: Any) -> None:
    with pytest.raises(MixloaderError, match=r"augment must be an Augment\(\.\.\.\) or None, got"):
        controller(augment=augment)


def test_an_open_run_has_no_epoch_before_the_first() -> None:
    planner = controller(Whole(), run=replace(RUN, epochs=None))
    for call in (planner.plan, planner.budget, planner.cost):
        with pytest.raises(MixloaderError, match="epoch must be at least 0, got -1"):
            call(-1)
    assert planner.cost(1000) == 100


@pytest.mark.parametrize("epochs", [8, None])
@pytest.mark.parametrize("epoch", [2**31, 10**30, 10**5000], ids=["int32", "int64", "digits"])
def test_an_epoch_that_no_ledger_can_hold_is_refused(epochs: int | None, epoch: int) -> None:
    planner = controller(Whole(), run=replace(RUN, epochs=epochs))
    for call in (planner.plan, planner.budget, planner.cost):
        with pytest.raises(MixloaderError, match=r"epoch .* is outside"):
            call(epoch)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"policy": Naive()}, r"its policy is MixTrain\(.*this one's Naive"),
        ({"seed": 4}, "its seed is 0, this one's 4"),
        ({"run": replace(RUN, batch_size=30)}, "its batch_size is 20, this one's 30"),
        ({"run": replace(RUN, image_size=160)}, "its image_size is 128, this one's 160"),
        ({"run": replace(RUN, stride=64)}, "its stride is 32, this one's 64"),
        ({"run": replace(RUN, epochs=9)}, "its epochs is 8, this one's 9"),
        ({"run": replace(RUN, drop_last=True)}, "its drop_last is False, this one's True"),
        ({"fingerprint": "other"}, "of another data set"),
        ({"run": replace(RUN, samples=91)}, "holds 90 samples"),
    ],
)
def test_the_state_of_another_run_is_refused(other: dict[str, Any], message: str) -> None:
    state = controller().state_dict()
    with pytest.raises(MixloaderError, match=message) as caught:
        controller(**other).load_state_dict(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["policy", "seed", "ledger", "batch_size", "stride", "epochs", "drop_last"])
def test_a_state_without_one_of_its_parts_is_refused(missing: str) -> None:
    state = controller().state_dict()
    del state[missing]
    with pytest.raises(MixloaderError, match="no state of a run: it needs"):
        controller().load_state_dict(state)


def kind(value: Any) -> str:
    """For the names of tests: not every value has a text."""
    return value if isinstance(value, str) and value.isidentifier() else type(value).__name__


@pytest.mark.parametrize("version", [None, 0, 2, True, 1.0, "1", torch.ones(2), np.ones(2), 10**5000], ids=kind)
def test_a_state_of_another_version_is_refused_with_what_to_do(version: Any) -> None:
    state = controller().state_dict() | {"version": version}
    with pytest.raises(MixloaderError, match=r"has version .*: go on with the mixloader that wrote it") as caught:
        controller().load_state_dict(state)
    assert "\n" not in str(caught.value)
    del state["version"]
    with pytest.raises(MixloaderError, match="has version None"):
        controller().load_state_dict(state)


@pytest.mark.parametrize(
    "value", [10**5000, torch.zeros(9, 9), "two\nlines", [[1]], True, np.int64(0), float("nan")], ids=kind
)
@pytest.mark.parametrize("name", ["seed", "policy", "epochs", "shuffle"])
def test_a_state_with_something_else_in_it_is_refused_in_one_line(name: str, value: Any) -> None:
    if name == "shuffle" and value is True:
        return
    with pytest.raises(MixloaderError, match=f"its {name} is") as caught:
        controller().load_state_dict(controller().state_dict() | {name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_state_whose_ledger_is_damaged_changes_nothing() -> None:
    one, other = controller(), controller()
    train(one, 0)
    train(other, 0)
    state = one.state_dict()
    state["ledger"] = state["ledger"] | {"whole": torch.zeros(3, dtype=torch.int32)}
    train(other, 1)
    before = other.ledger.snapshot()
    with pytest.raises(MixloaderError):
        other.load_state_dict(state)
    after = other.ledger.snapshot()
    assert all(np.array_equal(getattr(before, name), getattr(after, name), equal_nan=True) for name in vars(before))


@pytest.mark.parametrize("state", [{}, None, [1]])
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(MixloaderError, match="no state of a run"):
        controller().load_state_dict(state)


@dataclass(frozen=True)
class HardestTwice:
    """A policy of somebody else's: the half with the lower losses sits out."""

    def budget(self, run: Run, epoch: int) -> Budget | None:
        return None

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        share = np.ones(run.samples, np.float32)
        share[ByLoss().needs(losses, epoch, rng) < 0.5] = 0
        return Allocation(run.image_size, share, 2 * share)


def test_a_policy_of_ones_own_needs_two_methods() -> None:
    planner = controller(HardestTwice())
    train(planner, 0)
    plan = planner.plan(1).whole()
    assert len(plan) == 45
    assert planner.cost(1) is None
    assert planner.total_cost is None
