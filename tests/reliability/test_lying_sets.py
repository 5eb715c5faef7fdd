"""Shards that change and indexes that lie: a sample is its own picture, or an error with a name."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.images import cls_members, jpeg, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

from mixloader.errors import ShardError
from mixloader.shards import ShardSet
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

Lie = Callable[[Path], None]


@pytest.fixture
def own(image_folder: Path, tmp_path: Path) -> Path:
    """24 samples of 24 sizes in one shard."""
    write_shards(FolderSource(image_folder), tmp_path / "own", options=ShardOptions(shard_size=100))
    return tmp_path / "own"


def change_rows(folder: Path, change: Callable[[np.ndarray[Any, Any]], None]) -> None:
    rows = np.load(folder / "index.npy")
    change(rows)
    np.save(folder / "index.npy", rows)


def swap(rows: np.ndarray[Any, Any]) -> None:
    for name in ("offset", "size"):
        rows[name][[3, 5]] = rows[name][[5, 3]]


def put(name: str, value: Callable[[Any], Any]) -> Callable[[np.ndarray[Any, Any]], None]:
    def change(rows: np.ndarray[Any, Any]) -> None:
        rows[name][3] = value(rows[3])

    return change


LIES: dict[str, Callable[[np.ndarray[Any, Any]], None]] = {
    "two rows swapped": swap,
    "a size too small": put("size", lambda row: row["size"] - 1),
    "a size too large": put("size", lambda row: row["size"] + 1),
    "an offset within the image": put("offset", lambda row: row["offset"] + 100),
    "an offset before the image": put("offset", lambda row: row["offset"] - 512),
    "an offset behind the end": put("offset", lambda row: 1 << 60),
    "a negative offset": put("offset", lambda row: -512),
    "another key": put("key", lambda row: b"another"),
    "a key that is no text": put("key", lambda row: b"\xff\xfe"),
    "a shard that is not there": put("shard", lambda row: 7),
    "a label without a class": put("label", lambda row: 99),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_lies_about_a_sample_costs_that_sample(lie: str, own: Path, note: Any) -> None:
    honest = [bytes(sample.data) for sample in ShardSet(own)]
    change_rows(own, LIES[lie])
    opened, refused = ShardSet(own), []
    for i in range(len(opened)):
        try:
            assert bytes(opened.data(i)) == honest[i]
        except ShardError as error:
            refused.append((i, str(error)))
    assert {i for i, _ in refused} <= {3, 5}
    assert refused
    for _, message in refused:
        assert "\n" not in message
    note(f"lying index: {lie}", refused=[i for i, _ in refused], message=refused[0][1].replace(str(own), "SET"))


def test_a_level_that_is_another_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "class").mkdir(parents=True)
    (tmp_path / "images" / "class" / "a.jpg").write_bytes(jpeg(100, 90))
    own = tmp_path / "own"
    write_shards(FolderSource(tmp_path / "images"), own, options=ShardOptions(levels=1))

    def point_at_the_image(rows: np.ndarray[Any, Any]) -> None:
        rows["levels"]["offset"], rows["levels"]["size"] = rows["offset"][:, None], rows["size"][:, None]

    assert len(ShardSet(own).data(0, 1))
    change_rows(own, point_at_the_image)
    with pytest.raises(ShardError, match="is not at offset"):
        ShardSet(own).data(0, 1)


def cut_in_place(shard: Path) -> None:
    with shard.open("r+b") as file:
        file.truncate(2048)


def cut_by_replacing(shard: Path) -> None:
    data = shard.read_bytes()
    (shard.parent / "new").write_bytes(data[: len(data) // 2])
    (shard.parent / "new").replace(shard)


def put_other_samples(shard: Path) -> None:
    """In place, as many bytes."""
    size = shard.stat().st_size
    members = cls_members([0] * 24, prefix="other")
    write_tar(shard.parent / "new.tar", members)
    data = (shard.parent / "new.tar").read_bytes()
    (shard.parent / "new.tar").unlink()
    with shard.open("r+b") as file:
        file.write(data[:size] + bytes(max(0, size - len(data))))


def touch(shard: Path) -> None:
    os.utime(shard)


def copy_again(shard: Path) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data)


HAPPENED: dict[str, tuple[Lie, bool]] = {
    "cut off in place": (cut_in_place, False),
    "other samples written over it": (put_other_samples, False),
    "deleted": (Path.unlink, True),  # the file that is open is still the old one
    "replaced by a shorter one": (cut_by_replacing, True),
    "touched": (touch, True),
    "copied again": (copy_again, True),
}


@pytest.mark.parametrize("what", HAPPENED)
def test_a_shard_that_changes_during_the_run_gives_its_own_pictures_or_none(what: str, own: Path, note: Any) -> None:
    opened, (happen, goes_on) = ShardSet(own), HAPPENED[what]
    before = [bytes(sample.data) for sample in opened]
    happen(own / "shard-000000.tar")
    found = []
    for i in range(len(opened)):
        try:
            assert bytes(opened.data(i)) == before[i]
            found.append("read")
        except ShardError as error:
            found.append("refused" if "shard-000000.tar" in str(error) else str(error))
    assert set(found) == {"read" if goes_on else "refused"}
    note(f"shard during the run: {what}", outcome=found[0])


def test_links_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("0.jpg", tarfile.SYMTYPE), ("0.cls", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            info.size = 0 if kind == tarfile.SYMTYPE else 1
            tar.addfile(info, io.BytesIO(b"0"))
    with pytest.raises(ShardError, match=r"'0\.jpg' at offset 0 is a link to '/etc/passwd': links are not followed"):
        ShardSet(tmp_path)


@pytest.mark.parametrize("key", ["../../outside", "/absolute", "a/../../b", ".."])
def test_a_path_in_a_key_leads_nowhere(key: str, tmp_path: Path) -> None:
    """It is a name only: nothing is ever written there."""
    inside = tmp_path / "deep" / "in" / "set"
    write_tar(inside / "a.tar", [(f"{key}/x.jpg", jpeg()), (f"{key}/x.cls", b"0")])
    opened = ShardSet(inside)
    assert opened[0].key == f"{key}/x"
    assert bytes(opened[0].data) == jpeg()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "a.tar",
        "index.npy",
        "manifest.json",
    ]


@pytest.mark.parametrize("part", [0.05, 0.2, 0.5, 0.6])
def test_a_tar_that_is_cut_short_is_refused(part: float, tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", cls_members([0, 1, 2])).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ShardError, match=r"a\.tar is (cut short|damaged)"):
        ShardSet(tmp_path)


names = st.text(st.characters(exclude_characters="/\0.", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(deadline=None, max_examples=150)
@given(
    folders=st.lists(names, max_size=4),
    stem=names,
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    extension=st.sampled_from(["jpg", "JPG", "png"]),
)
def test_no_name_that_a_tar_can_hold_is_taken_for_a_lie(
    folders: list[str], stem: str, form: int, extension: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, name = tmp_path_factory.mktemp("set"), "/".join([*folders, stem])
    with tarfile.open(folder / "a.tar", "w", format=form) as tar:
        for member, data in ((f"{name}.{extension}", b"picture"), (f"{name}.cls", b"0")):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError:  # ustar cannot hold it
                return
    assert bytes(ShardSet(folder).data(0)) == b"picture"
    shutil.rmtree(folder)
