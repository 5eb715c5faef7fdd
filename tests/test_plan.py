"""A plan is written, read, sliced and checked; a file that is no plan is refused."""

from __future__ import annotations

import os
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.runs import allocations, build_plan, columns_of, random_sizes, relaxed, runs, saved_bytes, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.plan import Plan


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    run, seed = draw(runs()), draw(seeds)
    return build_plan(draw(allocations(run)), run, random_sizes(seed, run.samples), seed=seed, epoch=0)


def a_plan() -> Plan:
    """Two batches of two canvases: a pair and a whole one, and a whole one and nothing."""
    return Plan(
        image_size=64,
        canvas_size=64,
        batches=2,
        canvases_per_batch=2,
        canvas=np.array([0, 0, 1, 2], np.int64),
        slot=np.array([0, 1, 0, 0], np.int8),
        sample=np.array([7, 3, 0, 5], np.int64),
        region=np.array([[0, 0, 16, 64], [16, 0, 64, 64], [0, 0, 64, 64], [0, 0, 64, 64]], np.int16),
        window=np.array([[0, 0, 1, 1]] * 4, np.float32),
        flip=np.zeros(4, np.bool_),
        weight=np.ones(4, np.float32),
        opacity=np.ones(4, np.float32),
    )


@relaxed
@given(plan=plans())
def test_every_built_plan_passes_its_own_check(plan: Plan) -> None:
    plan.check()


@relaxed
@given(plan=plans())
def test_a_saved_plan_reads_the_same_and_saves_the_same_bytes(
    plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    first = saved_bytes(plan, folder)
    loaded = Plan.load(folder / "plan.npz")
    assert columns_of(loaded) == columns_of(plan)
    numbers = ("image_size", "canvas_size", "batches", "canvases_per_batch")
    assert [getattr(loaded, name) for name in numbers] == [getattr(plan, name) for name in numbers]
    assert [type(getattr(loaded, name)) for name in numbers] == [int] * 4
    assert saved_bytes(loaded, folder) == first


@relaxed
@given(plan=plans())
def test_the_batches_tile_the_plan(plan: Plan) -> None:
    parts = [plan.batch(b) for b in range(plan.batches)]
    for part in parts:
        part.check()
        assert (part.batches, part.canvases_per_batch) == (1, plan.canvases_per_batch)
    moved = [part.canvas + b * plan.canvases_per_batch for b, part in enumerate(parts)]
    assert np.array_equal(np.concatenate(moved), plan.canvas)
    for name in ("slot", "sample", "region", "window", "flip", "weight", "opacity"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(plan, name))
    assert sum(part.cost for part in parts) == pytest.approx(plan.cost)


@relaxed
@given(plan=plans())
def test_the_batches_joined_are_the_plan(plan: Plan) -> None:
    joined = Plan.join([plan.batch(b) for b in range(plan.batches)])
    assert columns_of(joined) == columns_of(plan)
    assert (joined.batches, joined.canvases, joined.cost) == (plan.batches, plan.canvases, plan.cost)


@pytest.mark.parametrize("b", [-1, 2])
def test_there_is_no_batch_outside_the_plan(b: int) -> None:
    with pytest.raises(IndexError, match=f"batch {b} of a plan of 2 batches"):
        a_plan().batch(b)


def test_shares_are_region_pixels_relative_to_a_whole_canvas() -> None:
    assert a_plan().shares.tolist() == [0.25, 0.75, 1, 1]
    small = replace(a_plan(), image_size=128)
    assert small.shares.tolist() == [0.0625, 0.1875, 0.25, 0.25]


def test_cost_counts_empty_canvases_by_their_area() -> None:
    assert a_plan().cost == 4
    assert replace(a_plan(), image_size=128).cost == 1


def test_rows_taken_out_leave_the_others_where_they_were() -> None:
    rest = a_plan().without(np.array([True, False, False, True]))
    assert rest.sample.tolist() == [3, 0]
    assert rest.canvas.tolist() == [0, 1]
    assert rest.slot.tolist() == [1, 0]
    assert rest.cost == a_plan().cost


BAD_ROWS: list[tuple[str, Any]] = [
    ("canvas", 4),
    ("canvas", -1),
    ("canvas", 0),  # not ascending
    ("slot", -1),
    ("slot", 4),
    ("sample", -1),
    ("region", (0, 0, 65, 64)),
    ("region", (-1, 0, 64, 64)),
    ("region", (0, 32, 64, 32)),
    ("region", (64, 0, 0, 64)),
    ("window", (0, 0, 1.001, 1)),
    ("window", (-0.1, 0, 1, 1)),
    ("window", (0.5, 0, 0.5, 1)),
    ("window", (0, float("nan"), 1, 1)),
    ("weight", -1.0),
    ("weight", float("nan")),
    ("weight", float("inf")),
    ("opacity", 0.0),
    ("opacity", 1.5),
    ("opacity", float("nan")),
]


@pytest.mark.parametrize(("column", "value"), BAD_ROWS)
def test_a_row_that_cannot_be_drawn_is_refused_by_its_number(column: str, value: Any, tmp_path: Path) -> None:
    values = getattr(a_plan(), column).copy()
    values[3] = value
    bad = replace(a_plan(), **{column: values})
    with pytest.raises(MixloaderError, match=f"row 3: {column}"):
        bad.check()
    bad.save(tmp_path / "bad.npz")
    with pytest.raises(MixloaderError, match=rf"bad\.npz .*row 3: {column}"):
        Plan.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("name", ["canvas", "slot", "sample", "region", "window", "flip", "weight", "opacity"])
def test_a_column_of_another_type_or_shape_is_refused_by_name(name: str) -> None:
    column = getattr(a_plan(), name)
    for wrong in (column.astype(np.float16), column[..., None], column[:3] if name != "sample" else column[:, None]):
        with pytest.raises(MixloaderError, match=f"column {name} is"):
            replace(a_plan(), **{name: wrong}).check()


@pytest.mark.parametrize("name", ["image_size", "canvas_size", "batches", "canvases_per_batch"])
def test_sizes_that_are_not_positive_are_refused(name: str) -> None:
    with pytest.raises(MixloaderError, match="sizes must be positive"):
        replace(a_plan(), **{name: -1}).check()


def test_an_empty_plan_is_a_plan(tmp_path: Path) -> None:
    nothing = a_plan().without(np.ones(4, np.bool_))
    nothing.save(tmp_path / "none.npz")
    loaded = Plan.load(tmp_path / "none.npz")
    assert (len(loaded), loaded.cost, len(loaded.batch(1))) == (0, 4, 0)


def test_columns_in_any_order_of_memory_are_saved_as_they_are(tmp_path: Path) -> None:
    plan = replace(a_plan(), region=np.asfortranarray(a_plan().region), window=a_plan().window[::-1])
    plan.save(tmp_path / "plan.npz")
    assert columns_of(Plan.load(tmp_path / "plan.npz")) == columns_of(plan)


def test_saving_that_fails_leaves_the_plan_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.npz"
    a_plan().save(path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        a_plan().without(np.ones(4, np.bool_)).save(path)
    assert len(Plan.load(path)) == 4
    assert list(tmp_path.iterdir()) == [path]


def together(*rows: tuple[int, tuple[int, int, int, int], float]) -> Plan:
    """A canvas of these rows: slot, region, opacity."""
    slots, regions, opacities = zip(*rows, strict=True)
    count = len(rows)
    return Plan(
        image_size=64,
        canvas_size=64,
        batches=1,
        canvases_per_batch=1,
        canvas=np.zeros(count, np.int64),
        slot=np.array(slots, np.int8),
        sample=np.arange(count),
        region=np.array(regions, np.int16),
        window=np.array([[0, 0, 1, 1]] * count, np.float32),
        flip=np.zeros(count, np.bool_),
        weight=np.ones(count, np.float32),
        opacity=np.array(opacities, np.float32),
    )


WHOLE, LEFT, RIGHT = (0, 0, 64, 64), (0, 0, 32, 64), (32, 0, 64, 64)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, LEFT, 1), (0, RIGHT, 1)], "rows 0 and 1: slot 0 and 0 cannot share canvas 0"),
        ([(0, LEFT, 1), (1, (31, 0, 64, 64), 1)], "rows 0 and 1: region .* cannot share"),
        ([(0, LEFT, 1), (1, (32, 0, 64, 8), 1), (2, (8, 63, 9, 64), 1)], "rows 0 and 2: region .* cannot share"),
        ([(0, WHOLE, 0.5), (1, LEFT, 0.5)], "rows 0 and 1: opacity 0.5 and 0.5 cannot share"),
        ([(0, LEFT, 0.5), (1, RIGHT, 1)], "rows 0 and 1: opacity 0.5 and 1.0 cannot share"),
        ([(0, WHOLE, 0.6), (1, WHOLE, 0.6)], "canvas 0: the opacities of its rows sum to more than 1"),
        ([(slot % 4, (8 * slot, 0, 8 * slot + 8, 64), 1) for slot in range(5)], "rows 0 and 4: slot 0 and 0"),
    ],
)
def test_rows_that_cannot_share_a_canvas_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(MixloaderError, match=message):
        together(*rows).check()


def test_rows_that_share_a_canvas_pass_whichever_of_them_are_left() -> None:
    for plan in (
        together((0, LEFT, 1), (1, (32, 0, 64, 32), 1), (2, (32, 32, 64, 64), 1)),
        together((0, WHOLE, 0.25), (1, WHOLE, 0.5), (3, WHOLE, 0.25)),
    ):
        plan.check()
        plan.without(np.array([True, False, False])).check()


def without_column(path: Path) -> None:
    a_plan().save(path)
    with np.load(path) as file:
        values = {name: file[name] for name in file.files if name != "window"}
    with path.open("wb") as out:
        np.savez(out, **values)


def with_pickle(path: Path) -> None:
    a_plan().save(path)
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}
    values["sample"] = values["sample"].astype(object)
    with path.open("wb") as out:
        np.savez(out, **values)


def truncated(path: Path) -> None:
    a_plan().save(path)
    path.write_bytes(path.read_bytes()[:-100])


def compressed(path: Path) -> None:
    np.savez_compressed(path, **vars(a_plan()))


def twice(path: Path) -> None:
    a_plan().save(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("slot.npy", archive.read("slot.npy"))


def larger_than_the_file(path: Path) -> None:
    """Of its first member, both directories say that it has 2 GB."""
    a_plan().save(path)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = (2 << 30).to_bytes(4, "little") * 2
    path.write_bytes(data)


def with_slots(path: Path, header: bytes, data: bytes) -> None:
    """A plan whose slots have this header, which numpy would not write."""
    a_plan().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["slot.npy"] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def nested_header(path: Path) -> None:
    with_slots(path, b"-" * 9000 + b"1", bytes(4))


def by_columns(path: Path) -> None:
    np.savez(path, **(vars(a_plan()) | {"region": np.asfortranarray(a_plan().region)}))


def neither_true_nor_false(path: Path) -> None:
    np.savez(path, **(vars(a_plan()) | {"flip": np.array([0, 1, 2, 0], np.uint8).view(np.bool_)}))


def other_numbers(**columns: Any) -> Any:
    return lambda path: np.savez(path, **(vars(a_plan()) | columns))


@pytest.mark.parametrize(
    "write",
    [
        without_column,
        with_pickle,
        truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a plan\nat all\n" * 40),
        lambda path: path.write_bytes(b"\x80\x04\x95"),  # a pickle's first bytes
        lambda path: np.save(path.open("wb"), np.zeros(3)),
        lambda path: path.mkdir(),
        compressed,
        twice,
        larger_than_the_file,
        nested_header,
        by_columns,
        neither_true_nor_false,
        other_numbers(batches=np.array(1 << 62, np.uint64), canvases_per_batch=np.array(1 << 62)),
        other_numbers(batches=np.array(2.0)),
        other_numbers(batches=np.array([2])),
        other_numbers(canvas_size=np.array(float("nan"))),
        other_numbers(image_size=np.array(True)),
        other_numbers(sample=np.array(7)),
        other_numbers(slot=np.zeros((0, 1 << 62), np.int8)),
        other_numbers(canvas=np.array([0, 0, 1, 1 << 62])),
    ],
)
def test_a_file_that_is_no_plan_is_refused_in_one_line(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    write(path)
    with pytest.raises(MixloaderError) as caught:
        Plan.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "message"), [(larger_than_the_file, "says that it holds"), (compressed, "compressed")]
)
def test_no_memory_is_asked_for_that_the_file_does_not_have(write: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path / "plan.npz")
    tracemalloc.start()
    with pytest.raises(MixloaderError, match=message):
        Plan.load(tmp_path / "plan.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(MixloaderError, match=r"no plan at .*gone\.npz"):
        Plan.load(tmp_path / "gone.npz")
