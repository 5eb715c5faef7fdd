"""Plan files, ledger files and states that hold anything: taken or refused, and then nothing has changed."""

from __future__ import annotations

import copy
import io
import struct
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fuzzing import bounded, damaged, fuzz
from helpers.images import cls_members, write_tar
from helpers.loaders import Painter, ids_of
from helpers.runs import PAIRS, columns_of, random_sizes
from hypothesis import strategies as st

from mixloader.arguments import open_pipeline
from mixloader.controller import Controller
from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.loader import Batch, MixLoader
from mixloader.plan import Plan
from mixloader.policies import InfoBatch, MixTrain, Policy, Run, Whole
from mixloader.shards import ShardSet

SAMPLES, EPOCHS = 24, 4
RUN = Run(SAMPLES, 7, 64, 16, EPOCHS)
MOST_MEMORY = 4 << 20  # bytes that reading a file of a few kilobytes may take
EXTREMES = [0, -1, 1, -2, 2**31 - 1, -(2**31), 1 << 40, 1 << 62, float("nan"), float("inf"), 0.5, -1e38]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_tar(folder / "a.tar", cls_members([i % 3 for i in range(SAMPLES)]))
    return folder


@contextmanager
def frugal() -> Iterator[None]:
    """Fails what asks for much memory, whether or not it uses it."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


def assert_message(error: MixloaderError, path: Path | None = None) -> None:
    """One line that can be written, and that names the file where there is one."""
    assert path is None or str(path) in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 2000
    str(error).encode()


# ---- files


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """An array of any type and shape."""
    dtype = draw(st.sampled_from(["f4", ">f4", "f8", "i4", ">i8", "i8", "i2", "u8", "?", "c8", "U3", "S4", "M8[s]"]))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 3, 4, SAMPLES]), max_size=3)))
    return np.random.default_rng(draw(st.integers(0, 99))).normal(0, 1e3, shape).astype(dtype)


@st.composite
def other_values(draw: st.DrawFn, column: Any) -> Any:
    """The array with some of its values exchanged."""
    changed = column.copy()
    if changed.dtype.kind not in "ifub":
        return np.array(draw(st.text(max_size=30)))
    if changed.size and draw(st.booleans()):
        return changed[draw(st.permutations(range(len(changed))))] if changed.ndim else changed
    for _ in range(draw(st.integers(1, 3)) if changed.size else 0):
        with np.errstate(all="ignore"):
            changed.flat[draw(st.integers(0, changed.size - 1))] = np.array(
                draw(st.sampled_from(EXTREMES) | st.integers(0, 64)), np.float64
            ).astype(changed.dtype)
    return changed


@st.composite
def other_arrays(draw: st.DrawFn, whole: bytes) -> bytes:
    """An archive in which arrays are others, or of other names."""
    with np.load(io.BytesIO(whole)) as file:
        columns = {name: file[name] for name in file.files}
    for _ in range(draw(st.integers(1, 2))):
        name, kind = draw(st.sampled_from(sorted(columns))), draw(st.sampled_from(["other", "values", "gone", "more"]))
        if kind == "gone" and len(columns) > 1:
            del columns[name]
        elif kind == "values":
            columns[name] = draw(other_values(columns[name]))
        else:
            columns[f"{name}x" if kind == "more" else name] = draw(arrays())
    return packed({f"{name}.npy": npy(column) for name, column in columns.items()})


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def members_of(whole: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


SHAPES = ["(0,)", "(4,)", "(-4,)", "(True,)", "()", "(999999999999,)", "(0, 4611686018427387904)", f"({'9' * 400},)"]
DESCRIPTIONS = ["'<f4'", "'>f4'", "'|O'", "'|V0'", "'<U0'", "'|b1'", "[('a', '<i4')]", "'<i8'", "4", "'|S1000000000'"]


@st.composite
def other_headers(draw: st.DrawFn, whole: bytes) -> bytes:
    """An archive in which the header of an array says something else, or its bytes are no values of its type."""
    members = members_of(whole)
    name = draw(st.sampled_from(sorted(members)))
    content = members[name]
    start = 10 + int.from_bytes(content[8:10], "little")
    header, data = content[10:start], content[start:]
    description = header.split(b"'descr': ")[1].split(b", 'fortran")[0].decode()
    shape = header.split(b"'shape': ")[1].rsplit(b", }")[0].decode()
    parts = [
        draw(st.sampled_from([description, *DESCRIPTIONS])),
        draw(st.sampled_from(["False", "True", "None"])),
        draw(st.sampled_from([shape, shape, *SHAPES])),
    ]
    text = f"{{'descr': {parts[0]}, 'fortran_order': {parts[1]}, 'shape': {parts[2]}, }}"
    text = draw(st.sampled_from([text, text, text, "(" * 9000, "-" * 9000 + "1", text + " " * 20_000]))
    data = draw(st.just(data) | st.just(b"\2" * len(data)) | st.just(b"\xff" * len(data)) | st.binary(max_size=64))
    members[name] = content[:8] + len(text).to_bytes(2, "little") + text.encode() + data
    return packed(members)


FIELDS = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<I"), "packed": (20, "<I"), "size": (24, "<I")}
FIELDS |= {"name": (28, "<H"), "extra": (30, "<H"), "comment": (32, "<H"), "offset": (42, "<I")}
NUMBERS = [0, 1, 8, 12, 100, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, (1 << 32) - 2, (1 << 32) - 1]


@st.composite
def other_entries(draw: st.DrawFn, whole: bytes) -> bytes:
    """An archive whose directory says something else: sizes, places, checksums, ways of packing."""
    data = bytearray(whole)
    entries = [at for at in range(len(data) - 46) if data[at : at + 4] == b"PK\x01\x02"]
    fields = draw(st.sampled_from([*([name] for name in FIELDS), ["packed", "size"], ["packed", "size"]]))
    at, number = draw(st.sampled_from(entries)), draw(st.sampled_from(NUMBERS) | st.integers(0, len(data)))
    for field in fields:
        start, form = FIELDS[field]
        struct.pack_into(form, data, at + start, number & (0xFFFF if form == "<H" else 0xFFFFFFFF))
    return bytes(data)


@st.composite
def repacked(draw: st.DrawFn, whole: bytes) -> bytes:
    """An archive that is compressed, has a member twice, or one whose checksum is another."""
    members = members_of(whole)
    kind = draw(st.sampled_from(["compressed", "twice", "checksum", "spliced", "order"]))
    name = draw(st.sampled_from(sorted(members)))
    if kind == "compressed":
        methods = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
        return packed(members, draw(st.sampled_from(methods)))
    if kind == "order":
        return packed({name: members[name] for name in draw(st.permutations(sorted(members)))})
    if kind == "twice":
        data = packed({**members, "x" * len(name): members[draw(st.sampled_from(sorted(members)))]})
        return data.replace(b"x" * len(name), name.encode())
    if kind == "checksum":
        flipped = bytearray(whole)
        flipped[whole.index(members[name]) + draw(st.integers(0, len(members[name]) - 1))] ^= draw(st.integers(1, 255))
        return bytes(flipped)
    return whole[: draw(st.integers(0, len(whole)))] + whole[draw(st.integers(0, len(whole))) :]


def bomb(whole: bytes, name: str) -> bytes:
    """A small file of the right names, one of which unpacks to a sixteenth of a gigabyte."""
    return packed({**members_of(whole), name: bytes(64 << 20)}, zipfile.ZIP_DEFLATED)


def archives(whole: bytes, name: str) -> st.SearchStrategy[bytes]:
    """An `.npz` file that is damaged, or has other arrays in it, or is packed another way."""
    kinds = [damaged, other_arrays, other_arrays, other_headers, other_entries, repacked]
    return st.one_of(st.just(whole), st.just(bomb(whole, name)), *(kind(whole) for kind in kinds))


def assert_drawable(plan: Plan) -> None:
    plan.check()
    with_rows = np.unique(plan.canvas // max(plan.canvases_per_batch, 1)).tolist()
    rows = 0
    for b in {*range(min(plan.batches, 20)), *with_rows, *range(max(plan.batches - 1, 0), plan.batches)}:
        batch = plan.batch(b)
        batch.check()
        rows += len(batch)
    assert rows == len(plan)


def test_any_plan_file_is_a_plan_that_can_be_drawn_or_refused(
    folder: Path, thorough: bool, note: Any, tmp_path: Path
) -> None:
    path, found = tmp_path / "plan.npz", Counter[str]()
    ledger = recorded(LossLedger(SAMPLES))
    controller = Controller(PAIRS, RUN, random_sizes(0, SAMPLES), ledger)
    controller.plan(1).whole().save(path)
    files = archives(path.read_bytes(), "slot.npy")
    shards = ShardSet(folder)
    pipeline = open_pipeline("pillow", shards, torch.device("cpu"), 1)

    def each(data: st.DataObject) -> None:
        path.write_bytes(data.draw(files))
        with bounded(), frugal():
            try:
                plan = Plan.load(path)
            except MixloaderError as error:
                assert_message(error, path)
                found["refused"] += 1
                return
            assert_drawable(plan)
        if plan.canvases_per_batch < 50 and plan.canvas_size <= 64 and (plan.sample < SAMPLES).all():
            for b in range(min(plan.batches, 4)):
                drawn = pipeline.draw(plan.batch(b))
                assert drawn.canvases.shape[:3] == (plan.canvases_per_batch, *(plan.canvas_size,) * 2)
            found["drawn"] += 1
        found["accepted"] += 1

    fuzz(each, 20_000 if thorough else 250)
    pipeline.close()
    shards.close()
    note("fuzz: plan files", executions=found["refused"] + found["accepted"], **found)
    assert len(found) == 3


def recorded(ledger: LossLedger, seed: int = 0) -> LossLedger:
    losses = np.random.default_rng(seed).gamma(1, 1, ledger.samples).astype(np.float32)
    ledger.record(torch.arange(ledger.samples - 2), torch.from_numpy(losses[:-2]))
    return ledger


def test_any_ledger_file_is_a_ledger_or_refused(thorough: bool, note: Any, tmp_path: Path) -> None:
    path, found = tmp_path / "ledger.npz", Counter[str]()
    recorded(LossLedger(SAMPLES, fingerprint="a set")).save(path)
    files = archives(path.read_bytes(), "loss.npy")

    def each(data: st.DataObject) -> None:
        path.write_bytes(data.draw(files))
        ledger = recorded(LossLedger(SAMPLES, fingerprint="a set"), seed=1)
        before = frozen(ledger.state_dict())
        with bounded():
            try:
                with frugal():
                    ledger.load(path)
            except MixloaderError as error:
                assert_message(error, path)
                assert frozen(ledger.state_dict()) == before
                found["refused"] += 1
                return
            Controller(PAIRS, RUN, random_sizes(0, SAMPLES), ledger).plan(1).whole().check()
            found["accepted"] += 1

    fuzz(each, 20_000 if thorough else 250)
    note("fuzz: ledger files", executions=found.total(), **found)
    assert len(found) == 2


# ---- states


def frozen(state: Any) -> Any:
    """A state, for a comparison that NaN passes too."""
    if isinstance(state, dict):
        return {name: frozen(value) for name, value in state.items()}
    return (state.dtype, state.shape, state.numpy().tobytes()) if isinstance(state, torch.Tensor) else state


@st.composite
def tensors(draw: st.DrawFn) -> Any:
    array = draw(arrays())
    usual = array.dtype.kind in "fiu?c" and array.dtype.isnative
    return torch.from_numpy(array) if usual else array


odd_tensors = st.sampled_from(
    [
        torch.full((SAMPLES,), float("nan")),
        torch.full((SAMPLES,), float("inf")),
        torch.full((SAMPLES,), -1e38),
        torch.full((SAMPLES,), 2**31 - 1, dtype=torch.int32),
        torch.full((SAMPLES,), -2, dtype=torch.int32),
        torch.zeros(1).expand(SAMPLES),
        torch.zeros(SAMPLES, dtype=torch.complex64).conj().imag,
        torch.zeros(SAMPLES, device="meta"),
        torch.zeros(SAMPLES).to_sparse(),
        torch.nn.Parameter(torch.zeros(SAMPLES)),
    ]
)
numbers = st.integers(-3, 9) | st.integers() | st.sampled_from([2**31 - 1, 2**31, 2**63, 10**30])
anything = (
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=5) | tensors() | odd_tensors
    | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
    | st.sampled_from([np.int64(0), np.float32(1), np.zeros(3), b"", "two\nlines", (), object, range(3)])
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A value that is near the one that was there."""
    if isinstance(value, torch.Tensor):
        usual = type(value) is torch.Tensor and value.dtype in (torch.float32, torch.int32) and not value.is_neg()
        usual = usual and value.layout is torch.strided and value.device.type == "cpu"
        return torch.from_numpy(draw(other_values(value.numpy()))) if usual else value
    if isinstance(value, bool):
        return int(value)
    return value + draw(st.integers(-2, 2)) if isinstance(value, int) else copy.copy(value)


@st.composite
def states(draw: st.DrawFn, whole: dict[str, Any]) -> Any:
    """A state in which something is missing, is another thing, or has other values."""
    if draw(st.integers(0, 30)) == 0:
        return draw(anything)
    state = {name: dict(value) if isinstance(value, dict) else value for name, value in whole.items()}
    for _ in range(draw(st.integers(1, 3))):
        inner = [value for value in state.values() if isinstance(value, dict) and value]
        part = draw(st.sampled_from([state, *inner * 2]))
        name = draw(st.sampled_from(sorted(part, key=str)))
        kind = draw(st.sampled_from(["changed"] * 4 + ["anything", "gone", "more", "swapped"]))
        if kind == "gone" and len(part) > 1:
            del part[name]
        elif kind == "more":
            part[draw(st.text(max_size=3))] = draw(anything)
        elif kind == "swapped":
            part[name] = part[draw(st.sampled_from(sorted(part, key=str)))]
        else:
            part[name] = draw(anything if kind == "anything" else changed(part[name]))
    return state


def test_a_controller_takes_any_state_or_refuses_it_and_then_nothing_has_changed(thorough: bool, note: Any) -> None:
    found = Counter[str]()

    def controller(seed: int) -> Controller:
        ledger = recorded(LossLedger(SAMPLES, fingerprint="a set"), seed)
        return Controller(PAIRS, RUN, random_sizes(0, SAMPLES), ledger)

    whole, planned = controller(0).state_dict(), columns_of(controller(1).plan(1).whole())

    def each(data: st.DataObject) -> None:
        state, one = data.draw(states(whole)), controller(1)
        before = frozen(one.state_dict())
        with bounded():
            try:
                one.load_state_dict(state)
            except MixloaderError as error:
                assert_message(error)
                assert frozen(one.state_dict()) == before
                assert columns_of(one.plan(1).whole()) == planned
                found["refused"] += 1
                return
            one.plan(1).whole().check()
            found["accepted"] += 1

    fuzz(each, 2_000 if thorough else 200)
    note("fuzz: states of a controller", executions=found.total(), **found)
    assert len(found) == 2


def drawn_of(batches: Iterable[Batch]) -> list[int]:
    """The samples of the batches, in order."""
    return [sample for ids in ids_of(batches) for sample in ids if sample >= 0]


def stopped(folder: Path, policy: Policy, seed: int, epochs: int | None) -> MixLoader:
    """A loader in the middle of its second epoch."""
    loader = MixLoader(folder, 7, 64, policy=policy, epochs=epochs, stride=16, pipeline=Painter(), threads=1)
    generator = torch.Generator().manual_seed(seed)
    for batches in (len(loader), 2):
        for b, (_, target) in enumerate(loader, 1):
            ids = target["ids"].flatten()
            loader.ledger.record(ids, torch.rand(len(ids), generator=generator))
            if b == batches:
                break
    return loader


def go_on(loader: MixLoader, state: dict[str, Any]) -> str:
    """Draw the rest of the epoch that was loaded: every sample once, with those before."""
    epoch, step = state["epoch"], state["step"]
    if epoch == loader._controller.run.epochs or epoch > 2**31 - 1:  # the run is over
        with pytest.raises(MixloaderError, match="is outside"):
            iter(loader)
        return "accepted"
    plan = loader.plan
    before = [sample for b in range(step) for sample in plan.batch(b).sample.tolist()]
    drawn = before + drawn_of(loader)
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) == set(plan.sample.tolist())
    leaves_out = loader._controller.policy not in (PAIRS, Whole())
    assert leaves_out or len(drawn) == SAMPLES
    return "accepted"


CASES: list[tuple[str, Policy, int | None]] = [
    ("mixtrain", MixTrain(speedup=1.3), EPOCHS),
    ("infobatch", InfoBatch(), EPOCHS),
    ("pairs", PAIRS, EPOCHS),
    ("open-ended", Whole(), None),
]


@pytest.mark.parametrize(("name", "policy", "epochs"), CASES, ids=[name for name, *_ in CASES])
def test_a_loader_takes_any_state_or_refuses_it_and_then_nothing_has_changed(
    name: str, policy: Policy, epochs: int | None, folder: Path, thorough: bool, note: Any
) -> None:
    loader, found = stopped(folder, policy, 1, epochs), Counter[str]()
    own = loader.state_dict()
    loader.load_state_dict(own)
    rest = drawn_of(loader)
    with stopped(folder, policy, 2, epochs) as other:
        whole = other.state_dict()

    def each(data: st.DataObject) -> None:
        state = data.draw(states(whole))
        loader.load_state_dict(own)
        with bounded():
            try:
                loader.load_state_dict(state)
            except MixloaderError as error:
                assert_message(error)
                assert frozen(loader.state_dict()) == frozen(own)
                if data.draw(st.integers(0, 3)) == 0:
                    assert drawn_of(loader) == rest
                found["refused"] += 1
                return
            found[go_on(loader, state)] += 1

    fuzz(each, 2_000 if thorough else 80)
    loader.close()
    note(f"fuzz: states of a loader, {name}", executions=found.total(), **found)
    assert len(found) == 2
