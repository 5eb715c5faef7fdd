"""Plan files, ledger files and states that hold anything: taken or refused, and then nothing has changed."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fuzzing import bounded, damaged, fuzz
from helpers.images import cls_members, write_tar
from helpers.loaders import ids_of
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.loader import Batch, MixLoader
from mixloader.plan import Plan
from mixloader.policies import InfoBatch, MixTrain

SAMPLES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_tar(folder / "a.tar", cls_members([i % 3 for i in range(SAMPLES)]))
    return folder


@pytest.fixture(params=[MixTrain(speedup=1.3), InfoBatch()], ids=["mixtrain", "infobatch"])
def loader(request: pytest.FixtureRequest, folder: Path) -> Iterator[MixLoader]:
    with made(folder, request.param) as loader:
        yield loader


def made(folder: Path, policy: Any) -> MixLoader:
    return MixLoader(folder, 7, 64, policy=policy, epochs=4, stride=16, pipeline="pillow", threads=1)


def assert_message(error: MixloaderError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


arrays = st.builds(
    lambda dtype, shape, seed: (np.random.default_rng(seed).normal(0, 1e3, shape)).astype(dtype),
    st.sampled_from(["f4", "f8", "i4", "i8", "i2", "u1", "?", "c8", "U3", "S4", "M8[s]"]),
    st.lists(st.sampled_from([0, 1, 3, 4, SAMPLES]), max_size=3).map(tuple),
    st.integers(0, 99),
)


@st.composite
def archives(draw: st.DrawFn, whole: bytes) -> bytes:
    """An `.npz` that is damaged, or has other arrays in it, or is packed another way."""
    if draw(st.booleans()):
        return draw(damaged(whole))
    with np.load(io.BytesIO(whole)) as file:
        columns = {name: file[name] for name in file.files}
    for _ in range(draw(st.integers(1, 2))):
        name, kind = draw(st.sampled_from(sorted(columns))), draw(st.sampled_from(["other", "values", "gone", "more"]))
        if kind == "gone" and len(columns) > 1:
            del columns[name]
        elif kind == "values" and columns[name].dtype.kind in "ifu":
            extreme = draw(st.sampled_from([0, -1, 1, 2**31 - 1, -(2**31), 1 << 62, float("nan"), float("inf"), 0.5]))
            changed = columns[name].copy()
            with np.errstate(all="ignore"):
                some = np.arange(changed.size).reshape(changed.shape) % 5 == 0
                changed[...] = np.where(some, np.float64(extreme), changed)
            columns[name] = changed
        else:
            columns[f"{name}x" if kind == "more" else name] = draw(arrays)
    buffer = io.BytesIO()
    save = draw(st.sampled_from([np.savez, np.savez, np.savez_compressed]))
    save(buffer, **columns)  # type: ignore[arg-type]  # numpy's stubs take the names for options
    return buffer.getvalue()


def bomb(member: str) -> bytes:
    """A small file that unpacks to a quarter of a gigabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(member, "w") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    return {"plan": bomb("slot.npy"), "ledger": bomb("loss.npy")}


def test_any_plan_file_is_a_plan_that_can_be_drawn_or_refused(
    folder: Path, bombs: dict[str, bytes], thorough: bool, note: Any, tmp_path: Path
) -> None:
    path, found = tmp_path / "plan.npz", Counter[str]()
    with made(folder, MixTrain(speedup=1.3)) as loader:
        loader.plan.save(path)
    whole = path.read_bytes()

    def each(data: st.DataObject) -> None:
        path.write_bytes(data.draw(archives(whole) | st.just(bombs["plan"])))
        with bounded():
            try:
                plan = Plan.load(path)
            except MixloaderError as error:
                assert_message(error)
                found["refused"] += 1
                return
            plan.check()
            for b in range(min(plan.batches, 50)):
                assert (plan.batch(b).canvas < plan.canvases_per_batch).all()
            found["taken"] += 1

    fuzz(each, 20_000 if thorough else 200)
    note("fuzz: plan files", executions=found.total(), **found)
    assert len(found) == 2


def test_any_ledger_file_is_a_ledger_or_refused(
    bombs: dict[str, bytes], thorough: bool, note: Any, tmp_path: Path
) -> None:
    path, found = tmp_path / "ledger.npz", Counter[str]()
    ledger = LossLedger(SAMPLES, fingerprint="a set")
    ledger.record(torch.arange(9), torch.rand(9))
    ledger.save(path)
    whole = path.read_bytes()

    def each(data: st.DataObject) -> None:
        path.write_bytes(data.draw(archives(whole) | st.just(bombs["ledger"])))
        fresh = LossLedger(SAMPLES, fingerprint="a set")
        with bounded():
            try:
                fresh.load(path)
            except MixloaderError as error:
                assert_message(error)
                assert not fresh.snapshot().known.any()  # as it was
                found["refused"] += 1
                return
            assert fresh.snapshot().known.sum() <= SAMPLES
            found["taken"] += 1

    fuzz(each, 20_000 if thorough else 200)
    note("fuzz: ledger files", executions=found.total(), **found)
    assert len(found) == 2


tensors = st.builds(
    lambda array: torch.from_numpy(array) if array.dtype.kind in "fiu?c" else array, arrays
) | st.sampled_from(
    [
        torch.full((SAMPLES,), float("nan")),
        torch.full((SAMPLES,), float("inf")),
        torch.full((SAMPLES,), -1e38),
        torch.full((SAMPLES,), 2**31 - 1, dtype=torch.int32),
        torch.full((SAMPLES,), -2, dtype=torch.int32),
        torch.zeros(SAMPLES, device="meta"),
        torch.zeros(SAMPLES).to_sparse(),
        torch.quantize_per_tensor(torch.zeros(SAMPLES), 0.1, 0, torch.qint8),
    ]
)
anything = (
    st.none() | st.booleans() | st.integers(-3, 9) | st.integers() | st.floats() | st.text(max_size=5) | tensors
    | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)  # fmt: skip


def drawn_of(batches: Iterable[Batch]) -> list[int]:
    """The samples of the batches, in order."""
    return [sample for ids in ids_of(batches) for sample in ids if sample >= 0]


@st.composite
def states(draw: st.DrawFn, whole: dict[str, Any]) -> Any:
    """A state in which something is missing, is another thing, or has other values."""
    if draw(st.integers(0, 20)) == 0:
        return draw(anything)
    state = {name: dict(value) if isinstance(value, dict) else value for name, value in whole.items()}
    for _ in range(draw(st.integers(1, 2))):
        part = state
        inner = [value for value in state.values() if isinstance(value, dict) and value]
        if inner and draw(st.booleans()):
            part = draw(st.sampled_from(inner))
        name = draw(st.sampled_from(sorted(part, key=str)))
        if draw(st.booleans()):
            part[name] = draw(anything)
        else:
            del part[name]
        if not part:
            break
    return state


def test_any_state_is_taken_or_refused_and_then_nothing_has_changed(
    loader: MixLoader, thorough: bool, note: Any, request: pytest.FixtureRequest
) -> None:
    batches = iter(loader)
    for _ in range(2):
        _, target = next(batches)
        ids = target["ids"].flatten()
        loader.ledger.record(ids, torch.rand(len(ids)))
    whole, found = loader.state_dict(), Counter[str]()
    rest = drawn_of(batches)
    expected = str(torch.utils._pytree.tree_flatten(whole))

    def each(data: st.DataObject) -> None:
        state = data.draw(states(whole))
        loader.load_state_dict(whole)
        with bounded():
            try:
                loader.load_state_dict(state)
            except MixloaderError as error:
                assert_message(error)
                assert str(torch.utils._pytree.tree_flatten(loader.state_dict())) == expected
                found["refused"] += 1
                return
            step = loader.state_dict()["step"]
            drawn = drawn_of(loader)
            assert len(set(drawn)) == len(drawn)  # whatever is gone on with, no sample comes twice
            if step == whole["step"] and state["epoch"] == whole["epoch"] and state["start"] is whole["start"]:
                assert drawn == rest
            found["taken"] += 1

    fuzz(each, 2_500 if thorough else 60)
    note(f"fuzz: states, {request.node.callspec.id}", executions=found.total(), **found)
    assert len(found) == 2
