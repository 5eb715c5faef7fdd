"""The ledger: the last loss of every sample, whoever trains, and of this data set only."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import random_losses, relaxed, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses, LossLedger


def filled(seed: int = 0, samples: int = 20, fingerprint: str = "abc") -> LossLedger:
    ledger = LossLedger(samples, fingerprint=fingerprint)
    losses = random_losses(seed, samples)
    for epoch in np.unique(losses.seen[losses.seen >= 0]):
        ids = np.flatnonzero(losses.seen == epoch)
        ledger.begin(int(epoch))
        ledger.record(torch.from_numpy(ids), torch.from_numpy(losses.loss[ids]))
    return ledger


def same(one: Losses, other: Losses) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ("loss", "previous", "seen", "whole")
    )


@relaxed
@given(seed=seeds, samples=st.integers(1, 50), steps=st.integers(0, 12))
def test_the_ledger_holds_the_last_loss_and_epoch_of_each(seed: int, samples: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    ledger, last = LossLedger(samples), {}
    for epoch in range(steps):
        ledger.begin(epoch)
        ids = rng.permutation(samples)[: rng.integers(0, samples + 1)]
        losses = rng.normal(size=len(ids)).astype(np.float32)
        last |= {int(i): (float(loss), epoch) for i, loss in zip(ids, losses, strict=True)}
        ledger.record(torch.from_numpy(ids), torch.from_numpy(losses))
    got = ledger.snapshot()
    assert (got.loss.shape, got.loss.dtype, got.seen.dtype) == ((samples,), np.float32, np.int32)
    for i in range(samples):
        if i in last:
            assert (float(got.loss[i]), int(got.seen[i])) == last[i]
        else:
            assert np.isnan(got.loss[i])
            assert got.seen[i] == -1


@relaxed
@given(seed=seeds, samples=st.integers(1, 30), epochs=st.integers(0, 8))
def test_the_ledger_holds_the_loss_before_the_last_and_when_each_was_whole(
    seed: int, samples: int, epochs: int
) -> None:
    rng = np.random.default_rng(seed)
    ledger, history, whole = LossLedger(samples), [[np.nan, np.nan] for _ in range(samples)], [-1] * samples
    for epoch in range(epochs):
        ledger.begin(epoch)
        ids = rng.permutation(samples)[: rng.integers(0, samples + 1)]
        losses, shares = rng.normal(size=len(ids)), rng.choice([0.25, 0.5, 1.0], len(ids))
        for i, loss, share in zip(ids, losses, shares, strict=True):
            history[i].append(np.float32(loss))
            whole[i] = epoch if share == 1 else whole[i]
        ledger.record(*(torch.from_numpy(values) for values in (ids, losses, shares)))
    got = ledger.snapshot()
    np.testing.assert_array_equal(got.loss, [h[-1] for h in history])
    np.testing.assert_array_equal(got.previous, [h[-2] for h in history])
    assert got.whole.tolist() == whole


def test_empty_slots_write_nothing() -> None:
    ledger = LossLedger(3)
    ledger.record(torch.tensor([[1, -1], [-1, -1]]), torch.tensor([[2.0, 7.0], [8.0, float("nan")]]))
    got = ledger.snapshot()
    assert got.seen.tolist() == [-1, 0, -1]
    assert np.isnan(got.loss[[0, 2]]).all()
    assert got.loss[1] == 2


def test_losses_of_any_type_with_a_graph_are_taken_as_numbers() -> None:
    ledger = LossLedger(2)
    loss = torch.tensor([1.5, 2.5], dtype=torch.bfloat16, requires_grad=True) * 2
    ledger.record(torch.tensor([1, 0]), loss)
    assert ledger.snapshot().loss.tolist() == [5, 3]
    assert not ledger.loss.requires_grad


def test_large_ids_are_kept_apart() -> None:
    first = 2**24
    ledger = LossLedger(first + 2)
    ledger.record(torch.tensor([first, first + 1]), torch.tensor([1.0, 2.0]))
    assert ledger.snapshot().loss[first:].tolist() == [1, 2]


def test_a_snapshot_does_not_change_with_the_ledger() -> None:
    ledger = LossLedger(2)
    before = ledger.snapshot()
    ledger.record(torch.tensor([0]), torch.tensor([1.0]))
    assert not before.known.any()


def test_recording_works_inside_a_compiled_step() -> None:
    ledger = LossLedger(4)
    step = torch.compile(lambda ids, loss: ledger.record(ids, loss * 2), backend="eager", fullgraph=True)
    for epoch in range(3):
        ledger.begin(epoch)
        step(torch.tensor([epoch, -1]), torch.tensor([1.0, 5.0]))
    assert ledger.snapshot().seen.tolist() == [0, 1, 2, -1]
    assert ledger.snapshot().loss[:3].tolist() == [2, 2, 2]


def test_a_nan_loss_is_recorded_but_not_known() -> None:
    ledger = LossLedger(4)
    losses = torch.tensor([float("nan"), 9.0, float("-inf"), 1.0])
    ledger.record(torch.arange(4), losses)
    got = ledger.snapshot()
    assert got.seen.tolist() == [0] * 4
    assert np.isnan(got.loss[0])
    assert got.known.tolist() == [False, True, False, True]


@relaxed
@given(seed=seeds, samples=st.integers(1, 50))
def test_a_state_brings_the_losses_back(seed: int, samples: int) -> None:
    ledger, other = filled(seed, samples), LossLedger(samples, fingerprint="abc")
    state = ledger.state_dict()
    other.load_state_dict(state)
    assert same(other.snapshot(), ledger.snapshot())
    other.record(torch.tensor([0]), torch.tensor([123.0]))
    assert same(LossLedgerOf(state), ledger.snapshot())


def LossLedgerOf(state: dict[str, Any]) -> Losses:  # noqa: N802
    return Losses.of_state(state, np.zeros(len(state["loss"]), np.int64))


def test_a_state_survives_torch_save(tmp_path: Path) -> None:
    ledger = filled()
    torch.save(ledger.state_dict(), tmp_path / "state.pt")
    other = LossLedger(20, fingerprint="abc")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert same(other.snapshot(), ledger.snapshot())


@relaxed
@given(seed=seeds, samples=st.integers(1, 50))
def test_a_saved_ledger_reads_the_same(seed: int, samples: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.npz"
    ledger, other = filled(seed, samples), LossLedger(samples, fingerprint="abc")
    ledger.save(path)
    other.load(path)
    assert same(other.snapshot(), ledger.snapshot())


@pytest.mark.parametrize(("samples", "fingerprint"), [(19, "abc"), (20, "abd"), (20, "")])
def test_the_ledger_of_another_data_set_is_refused_in_one_line(samples: int, fingerprint: str, tmp_path: Path) -> None:
    ledger = LossLedger(samples, fingerprint=fingerprint)
    filled().save(tmp_path / "ledger.npz")
    for load in (lambda: ledger.load_state_dict(filled().state_dict()), lambda: ledger.load(tmp_path / "ledger.npz")):
        with pytest.raises(MixloaderError, match="is of another data set: it holds 20 samples of set abc") as caught:
            load()
        assert "\n" not in str(caught.value)
    assert not ledger.snapshot().known.any()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"fingerprint": "abc"},
        None,
        [1, 2],
        {"fingerprint": "abc", "loss": 3.0, "seen": 4},
        {"fingerprint": "abc", "loss": torch.tensor(1.0), "seen": torch.tensor(1)},
        {"fingerprint": "abc", "loss": [0.0] * 20, "seen": [0] * 20},
        {"fingerprint": "abc", "loss": torch.zeros(20, 2), "seen": torch.zeros(20, 2)},
        {"fingerprint": 7, "loss": torch.zeros(20), "seen": torch.zeros(20)},
    ],
)
def test_what_is_no_ledger_state_is_refused_in_one_line(state: Any) -> None:
    with pytest.raises(MixloaderError) as caught:
        LossLedger(20, fingerprint="abc").load_state_dict(state)
    assert "\n" not in str(caught.value)


def a_nested_tensor() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is a prototype
        return torch.nested.nested_tensor([torch.zeros(20)])


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(20, dtype=torch.float64),
        torch.zeros(20, dtype=torch.complex64),
        torch.zeros(20, dtype=torch.bool),
        torch.zeros(20, dtype=torch.int32),
        torch.zeros(20, device="meta"),
        torch.zeros(20).to_sparse(),
        torch.nn.Parameter(torch.zeros(20)),
        a_nested_tensor(),
        np.zeros(20, np.float32),
        [0.0] * 20,
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
@pytest.mark.parametrize("name", ["loss", "previous"])
def test_losses_that_are_no_plain_tensor_are_refused_and_nothing_changes(name: str, value: Any) -> None:
    ledger, state = filled(1), filled(0).state_dict()
    with pytest.raises(MixloaderError) as caught:
        ledger.load_state_dict(state | {name: value})
    assert "\n" not in str(caught.value)
    assert same(ledger.snapshot(), filled(1).snapshot())


@pytest.mark.parametrize("name", ["seen", "whole"])
def test_an_epoch_before_the_first_is_refused_and_nothing_changes(name: str) -> None:
    ledger, state = filled(1), filled(0).state_dict()
    state[name][3] = -2
    with pytest.raises(MixloaderError, match=f"damaged: {name} is -2 for a sample"):
        ledger.load_state_dict(state)
    assert same(ledger.snapshot(), filled(1).snapshot())


def test_losses_of_a_state_are_a_copy_whichever_way_they_lie() -> None:
    state = filled(samples=40).state_dict()
    state = {name: state[name][::2] for name in ("loss", "previous", "seen", "whole")}
    losses = LossLedgerOf(state)
    before = losses.state_dict()
    for name, value in state.items():
        assert getattr(losses, name).flags.c_contiguous
        value.fill_(7)
        assert not (before[name] == 7).all()
        assert torch.equal(torch.nan_to_num(losses.state_dict()[name]), torch.nan_to_num(before[name]))


def test_losses_of_any_value_are_taken() -> None:
    losses = torch.tensor([float("nan"), float("inf"), -float("inf"), -1e38] * 5)
    ledger = filled()
    ledger.load_state_dict(filled().state_dict() | {"loss": losses.conj() * 1, "previous": losses})
    assert np.array_equal(ledger.snapshot().loss, losses.numpy(), equal_nan=True)
    half = torch.zeros(20, dtype=torch.complex64).conj().imag  # a view that says: minus what is stored
    ledger.load_state_dict(filled().state_dict() | {"loss": half})
    assert not ledger.snapshot().loss.any()


@pytest.mark.parametrize("fingerprint", ["two\nlines", "\ud800", "\x1b[2J"])
def test_a_fingerprint_of_any_characters_is_named_in_one_line(fingerprint: str) -> None:
    with pytest.raises(MixloaderError, match="of another data set") as caught:
        filled().load_state_dict(filled().state_dict() | {"fingerprint": fingerprint})
    assert str(caught.value).isprintable()


def test_a_fingerprint_of_characters_that_there_are_not_is_refused(tmp_path: Path) -> None:
    columns = {name: value for name, value in filled().state_dict().items() if name != "fingerprint"}
    text = np.array([0x110000], np.uint32).view("U1").reshape(())
    np.savez(tmp_path / "ledger.npz", fingerprint=text, **columns)
    with pytest.raises(MixloaderError, match="its fingerprint is of another type"):
        filled().load(tmp_path / "ledger.npz")


def test_a_ledger_file_that_is_refused_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.npz"
    filled(samples=19).save(path)
    with pytest.raises(MixloaderError, match=r"ledger\.npz cannot be used: this ledger is of another data set"):
        filled().load(path)


@pytest.mark.parametrize("content", [b"", b"garbage\n" * 30, b"PK\x03\x04", b"\x80\x04\x95"])
def test_a_file_that_is_no_ledger_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ledger.npz"
    path.write_bytes(content)
    with pytest.raises(MixloaderError, match=r"ledger\.npz is no ledger file") as caught:
        LossLedger(20).load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(MixloaderError, match="no ledger at"):
        LossLedger(20).load(tmp_path / "gone.npz")


def test_pickled_arrays_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "ledger.npz"
    np.savez(path, loss=np.array([None] * 20), seen=np.zeros(20), fingerprint=np.array("abc"))  # loss is pickled
    with pytest.raises(MixloaderError, match="is no ledger file"):
        LossLedger(20, fingerprint="abc").load(path)


def test_a_ledger_needs_a_sample() -> None:
    with pytest.raises(MixloaderError, match="samples=0"):
        LossLedger(0)
