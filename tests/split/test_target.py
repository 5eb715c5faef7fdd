"""A target keeps its type and its ledger wherever a trainer moves it, and never lies."""

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data._utils.pin_memory import pin_memory

from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.split import SplitTarget


def values() -> dict[str, Tensor]:
    return {
        "labels": torch.tensor([[1, 2, -100, -100], [0, -100, -100, -100]]),
        "ids": torch.tensor([[7, 3, -1, -1], [5, -1, -1, -1]]),
        "weights": torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]]),
        "norms": torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]]),
        "shares": torch.tensor([[0.5, 0.5, 0, 0], [1, 0, 0, 0]]),
    }


@pytest.mark.parametrize(
    "move",
    [
        lambda target: target.to("cpu"),
        lambda target: target.to(torch.device("cpu"), non_blocking=True),
        lambda target: type(target)({key: value.to("cpu") for key, value in target.items()}),
        lambda target: type(target)((key, value) for key, value in target.items()),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_moving_keeps_the_type_and_the_ledger(move: Callable[[SplitTarget], SplitTarget]) -> None:
    ledger = LossLedger(10)
    target = SplitTarget.bound(ledger)(values())
    moved = move(target)
    assert type(moved) is type(target)
    assert moved is not target
    assert moved.ledger is ledger
    torch.testing.assert_close(dict(moved), values())


def test_a_device_move_moves_every_tensor() -> None:
    moved = SplitTarget(values()).to("meta")
    assert all(value.is_meta for value in moved.values())


def test_ledgers_are_apart() -> None:
    first, second = LossLedger(10), LossLedger(10)
    assert SplitTarget.bound(first)(values()).ledger is first
    assert SplitTarget.bound(second)(values()).ledger is second
    assert SplitTarget(values()).ledger is None


def test_a_pickle_is_a_plain_target() -> None:
    again = pickle.loads(pickle.dumps(SplitTarget.bound(LossLedger(10))(values())))
    assert type(again) is SplitTarget
    torch.testing.assert_close(dict(again), values())


def test_other_keys_are_refused() -> None:
    with pytest.raises(MixloaderError, match="labels, ids, weights, norms, shares, not labels: pass"):
        SplitTarget({"labels": torch.zeros(1, 4)})
    with pytest.raises(MixloaderError, match="not none"):
        SplitTarget({})


def test_the_repr_says_what_is_in_it() -> None:
    assert repr(SplitTarget.bound(LossLedger(10))(values())) == (
        "SplitTarget(3 samples on 2 canvases of 4 slots, device='cpu', ledger=LossLedger)"
    )


def test_correct_counts_constituents() -> None:
    target = SplitTarget(values())
    logits = torch.zeros(2, 4, 5)
    logits[0, 0, 1] = logits[0, 1, 4] = logits[1, 0, 0] = 1  # right, wrong, right
    right, count = target.correct(logits)
    assert (right.item(), count.item()) == (2, 3)
    assert right.dim() == count.dim() == 0
    right, count = target.correct(logits[:, 1])  # rows of class 4 and of class 0
    assert (right.item(), count.item()) == (1, 3)
    with pytest.raises(MixloaderError, match="do not fit"):
        target.correct(logits[:1])


PREDICTED = torch.zeros(2, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    "ask",
    [
        lambda target: operator.eq(PREDICTED, target),
        lambda target: operator.eq(target, PREDICTED),
        lambda target: operator.ne(PREDICTED, target),
        lambda target: operator.ne(target, PREDICTED),
        lambda target: PREDICTED.eq(target),
        lambda target: torch.eq(PREDICTED, target),
        lambda target: torch.equal(PREDICTED, target),
        lambda target: F.nll_loss(torch.zeros(2, 4), target),
        lambda target: nn.MSELoss()(torch.zeros(2, 4), target),
        lambda target: torch.unsqueeze(target, 0),
        lambda target: torch.argmax(target),
        lambda target: target == target.copy(),
    ],
)
def test_comparisons_and_other_functions_raise(ask: Callable[[SplitTarget], Any]) -> None:
    with pytest.raises(TypeError, match=r'target\["labels"\].*target.correct.*SplitLoss') as raised:
        ask(SplitTarget(values()))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("operation", [operator.add, operator.mul, operator.gt, operator.sub])
def test_arithmetic_raises(operation: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TypeError):
        operation(PREDICTED, SplitTarget(values()))
    with pytest.raises(TypeError):
        operation(SplitTarget(values()), PREDICTED)


@pytest.mark.parametrize("name", ["unsqueeze", "float", "size", "shape", "view", "argmax", "device", "cuda"])
def test_a_tensors_attributes_are_not_there(name: str) -> None:
    target = SplitTarget(values())
    assert not hasattr(target, name)
    with pytest.raises(AttributeError, match=rf"no '{name}'.*labels"):
        getattr(target, name)


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="only an accelerator has pinned memory")
def test_torchs_pinning_keeps_the_type() -> None:
    target = SplitTarget.bound(LossLedger(10))(values())
    pinned = pin_memory(target)
    assert type(pinned) is type(target)
    assert all(value.is_pinned() for value in pinned.values())
