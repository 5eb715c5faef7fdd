"""A run that stopped goes on as if it had not."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import cls_members, write_tar
from helpers.loaders import (
    bytes_of,
    ids_of,
    network,
    train_epoch,
    train_step,
)
from helpers.runs import PAIRS, columns_of
from torch import nn

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader
from mixloader.plan import Plan
from mixloader.policies import InfoBatch, MixTrain, Naive, Policy, Whole


def test_a_state_between_two_epochs_gives_the_same_next_epoch(make: Callable[..., MixLoader]) -> None:
    policy = PAIRS
    loader, model = make(policy=policy, stride=16), network()
    train_epoch(loader, model)
    train_epoch(loader, model)
    resumed = make(policy=policy, stride=16)
    assert ids_of([next(iter(resumed))])
    resumed.load_state_dict(loader.state_dict())
    for (images, target), (others, other) in zip(loader, resumed, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(target["ids"], other["ids"])
    unseen = make(policy=policy, stride=16)
    unseen.set_epoch(2)
    assert not np.array_equal(unseen.plan.sample, loader.plan.sample)  # it was the losses that made the plan


def test_the_state_of_another_run_is_refused(make: Callable[..., MixLoader], tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0, 1, 2] * 8))
    states = [make(tmp_path).state_dict(), make(seed=4).state_dict(), make(policy=Naive()).state_dict(), {}]
    states += [{name: value for name, value in make().state_dict().items() if name != "epoch"}]
    loader = make()
    for state in states:
        with pytest.raises(MixloaderError) as caught:
            loader.load_state_dict(state)
        assert "\n" not in str(caught.value)
    loader.load_state_dict(make().state_dict())


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """A state that went through a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file)
    return loaded


def trained(loader: MixLoader, model: nn.Module) -> list[dict[str, bytes]]:
    """Train an epoch, or the rest of one; its batches."""
    batches = []
    for batch in loader:
        batches.append(bytes_of(batch))
        train_step(model, batch)
    return batches


@pytest.mark.parametrize("policy", [Whole(), Naive(), PAIRS, InfoBatch()], ids=repr)
@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_run_resumed_within_an_epoch_is_the_run_that_went_on(
    make: Callable[..., MixLoader], policy: Policy, step: int
) -> None:
    options = {"policy": policy, "stride": 16, "batch_size": 4}
    loader, model = make(**options), network()
    for _ in range(2):
        train_epoch(loader, model)
    rest, state, weights = [], {}, {}
    for b, batch in enumerate(loader):
        if b >= step:
            rest.append(bytes_of(batch))
        train_step(model, batch)
        if b == step - 1:
            state, weights = saved(loader.state_dict()), copy.deepcopy(model.state_dict())
    assert (state["epoch"], state["step"], len(rest)) == (2, step, 6 - step)

    resumed, again = make(**options), network()
    resumed.load_state_dict(state)
    again.load_state_dict(weights)
    assert columns_of(resumed.plan) == columns_of(loader.plan)
    assert saved(resumed.state_dict()).keys() == state.keys()
    assert resumed.state_dict()["step"] == step
    assert trained(resumed, again) == rest
    for _ in range(2):
        assert trained(resumed, again) == trained(loader, model)
        assert columns_of(resumed.plan) == columns_of(loader.plan)
    for name in ("loss", "seen"):
        assert torch.equal(loader.state_dict()["ledger"][name], resumed.state_dict()["ledger"][name])

    if step == 5 and isinstance(
        policy, MixTrain | InfoBatch
    ):  # it is the losses of then that count, not those of the first steps
        late = make(**options)
        late.load_state_dict(state | {"step": 0})
        assert columns_of(late.plan) != columns_of(resumed_plan(make(**options), state))


def resumed_plan(loader: MixLoader, state: dict[str, Any]) -> Plan:
    loader.load_state_dict(state)
    return loader.plan


def test_a_peek_at_a_resumed_epoch_is_free(make: Callable[..., MixLoader]) -> None:
    loader = make()
    batches = iter(loader)
    next(batches)
    next(batches)
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    expected = ids_of(batches)
    for _ in range(2):
        assert ids_of([next(iter(resumed))]) == expected[:1]
        assert (resumed.state_dict()["epoch"], resumed.state_dict()["step"]) == (0, 2)
    resumed.set_epoch(0)  # as a loop does that says which epoch it is in
    assert ids_of(resumed) == expected
    assert ids_of(resumed) == ids_of(loader)


def test_set_epoch_gives_up_the_rest_of_a_resumed_epoch(make: Callable[..., MixLoader]) -> None:
    loader, fresh = make(), make()
    batches = iter(loader)
    next(batches)
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(1)
    ids_of(fresh)
    assert ids_of(resumed) == ids_of(fresh)


def where(loader: MixLoader) -> tuple[int, int, bool]:
    state = loader.state_dict()
    return state["epoch"], state["step"], "start" in state


def test_a_state_says_where_the_run_is(make: Callable[..., MixLoader]) -> None:
    loader = make()
    assert where(loader) == (0, 0, False)
    next(iter(loader))
    assert where(loader) == (0, 0, False)  # only peeked at
    for b, _ in zip(range(3), loader, strict=False):
        assert where(loader) == (0, b + 1, True)
    assert where(loader) == (1, 0, False)  # abandoned
    batches = iter(loader)
    next(batches)
    next(batches)
    assert where(loader) == (1, 2, True)
    next(batches)
    next(batches)
    assert next(batches, None) is None
    assert where(loader) == (2, 0, False)  # ended
    loader.set_epoch(5)
    assert where(loader) == (5, 0, False)


def test_a_state_taken_after_the_last_batch_goes_on_with_the_next_epoch(make: Callable[..., MixLoader]) -> None:
    """As a loop saves it that saves every so many steps."""
    loader, resumed = make(), make()
    for batch in loader:
        train_step(network(), batch)
        state = saved(loader.state_dict())
    resumed.load_state_dict(state)
    assert ids_of(resumed) == ids_of(loader)


def test_a_peek_within_an_epoch_does_not_change_the_state(make: Callable[..., MixLoader]) -> None:
    loader = make()
    batches = iter(loader)
    next(batches)
    next(batches)
    next(iter(loader))
    assert where(loader) == (0, 2, True)


def test_an_iteration_that_was_not_begun_does_not_change_the_state(make: Callable[..., MixLoader]) -> None:
    loader = make()
    batches = iter(loader)
    next(batches)
    next(batches)
    unused = iter(loader)
    assert where(loader) == (0, 2, True)
    del unused


def test_a_closed_and_finished_run_can_be_resumed_to_its_end(make: Callable[..., MixLoader]) -> None:
    loader, resumed = make(epochs=1), make(epochs=1)
    list(loader)
    loader.close()
    resumed.load_state_dict(saved(loader.state_dict()))
    with pytest.raises(MixloaderError, match="epoch 1 is outside the run"):
        iter(resumed)


def test_an_epoch_count_of_numpys_makes_a_state_like_any_other(make: Callable[..., MixLoader]) -> None:
    loader = make(batch_size=np.int64(7), seed=np.int64(0))
    loader.set_epoch(np.int64(2))  # type: ignore[arg-type]
    make().load_state_dict(saved(loader.state_dict()))


def state_at(loader: MixLoader, step: int) -> dict[str, Any]:
    batches = iter(loader)
    for _ in range(step):
        next(batches)
    return loader.state_dict()


OTHER_RUNS: list[tuple[str, dict[str, Any]]] = [
    ("batch_size", {"batch_size": 8}),
    ("image_size", {"image_size": 96}),
    ("stride", {"stride": 16}),
    ("epochs", {"epochs": 9}),
    ("epochs", {"epochs": None}),
    ("drop_last", {"drop_last": True}),
    ("policy", {"policy": Naive()}),
    ("seed", {"seed": 1}),
]


@pytest.mark.parametrize(("name", "options"), OTHER_RUNS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("step", [0, 2])
def test_a_state_of_a_run_that_differs_is_refused(
    make: Callable[..., MixLoader], name: str, options: dict[str, Any], step: int
) -> None:
    state, other = state_at(make(), step), make(**options)
    with pytest.raises(MixloaderError, match=f"this state is of another run: its {name} is") as caught:
        other.load_state_dict(state)
    assert "\n" not in str(caught.value)
    assert where(other) == (0, 0, False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"step": -1}, "damaged: it is of epoch 0 of 8, step -1 of 4"),
        ({"step": 5}, "damaged: it is of epoch 0 of 8, step 5 of 4"),
        ({"epoch": -1}, "damaged: it is of epoch -1"),
        ({"step": "2"}, "needs epoch and step"),
        ({"step": None}, "needs epoch and step"),
        ({"epoch": 1.0}, "needs epoch and step"),
        ({"epoch": 99}, "damaged: it is of epoch 99 of 8"),
        ({"start": {}}, "damaged"),
        ({"start": None}, "damaged"),
        ({"start": {"loss": torch.zeros(3), "seen": torch.zeros(3)}}, "damaged"),
    ],
    ids=str,
)
def test_a_damaged_state_is_refused_in_one_line(
    make: Callable[..., MixLoader], damage: dict[str, Any], message: str
) -> None:
    with pytest.raises(MixloaderError, match=message) as caught:
        make().load_state_dict(state_at(make(), 2) | damage)
    assert "\n" not in str(caught.value)


def test_a_state_within_an_epoch_needs_what_it_was_planned_from(make: Callable[..., MixLoader]) -> None:
    state = state_at(make(), 2)
    del state["start"]
    with pytest.raises(MixloaderError, match="this state is damaged"):
        make().load_state_dict(state)
