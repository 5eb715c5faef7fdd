from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mixloader.atomic import write_atomically
from mixloader.errors import ShardError
from mixloader.shards import ShardSet
from mixloader.shards.index import Manifest, Shard, Skipped, make_rows, read_manifest, row_dtype


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copied"))


def test_a_manifest_reads_back_as_written(tmp_path: Path) -> None:
    manifest = Manifest(
        ("a", "ä"),
        (Shard("x.tar", 10240, 3, "ff"), Shard("y.tar", 20480, 4, None, 17)),
        "label",
        "abc",
        {"quality": None},
        (Skipped("bad.jpg", "cut"),),
    )
    (tmp_path / "manifest.json").write_bytes(manifest.to_json())
    assert read_manifest(tmp_path) == manifest
    assert manifest.samples == 7
    assert json.loads(manifest.to_json())["samples"] == 7


def test_a_manifest_of_another_tool_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"version": 3}')
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "absent") is None


def test_a_manifest_of_a_newer_version_says_upgrade(copied: Path) -> None:
    path = copied / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ShardError, match="has version 2; this mixloader reads version 1: upgrade"):
        ShardSet(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop("classes"), "is damaged"),
        (lambda fields: fields["shards"][0].pop("bytes"), "is damaged"),
        (lambda fields: fields.update(samples=5), "counts 5 samples, its shards 24"),
    ],
)
def test_a_damaged_manifest_says_what_to_do(copied: Path, change, message: str) -> None:
    path = copied / "manifest.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(ShardError, match=rf"{message}.*delete it and index\.npy"):
        ShardSet(copied)


def test_a_cut_manifest_says_what_to_do(copied: Path) -> None:
    path = copied / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ShardError, match=r"cannot be read as JSON.*delete it and index\.npy"):
        ShardSet(copied)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no index at all"),
        lambda path: np.save(path, np.arange(24)),
        lambda path: np.save(path, np.array([{"a": 1}] * 24, dtype=object), allow_pickle=True),
        lambda path: np.save(path, np.zeros((24, 1), row_dtype(8))),
        lambda path: np.save(path, np.load(path)[:-1]),
        lambda path: np.save(path, np.load(path)[["shard", "key"]]),
    ],
)
def test_a_damaged_index_of_a_written_set_is_refused_until_deleted(copied: Path, damage) -> None:
    expected = [bytes(sample.data) for sample in ShardSet(copied)]
    damage(copied / "index.npy")
    with pytest.raises(ShardError, match=r"index\.npy .*: delete it, and the shards are scanned again"):
        ShardSet(copied)
    (copied / "index.npy").unlink()
    again = ShardSet(copied)
    assert [bytes(sample.data) for sample in again] == expected
    assert again.classes == ("cat", "dog", "owl")
    assert read_manifest(copied) is not None
    assert (copied / "index.npy").exists()


@pytest.mark.parametrize(("column", "value"), [("shard", 3), ("offset", 1 << 40), ("size", -1), ("label", 3)])
def test_an_impossible_row_is_never_read(copied: Path, column: str, value: int) -> None:
    rows = np.load(copied / "index.npy")
    rows[column][5] = value
    np.save(copied / "index.npy", rows)
    opened = ShardSet(copied)
    with pytest.raises(ShardError, match="for sample 5: delete"):
        opened[5]
    rows[column][23] = value
    np.save(copied / "index.npy", rows)
    with pytest.raises(ShardError, match="delete it"):
        ShardSet(copied)


@pytest.mark.parametrize("levels", [0, 2])
def test_opening_costs_the_same_for_any_number_of_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    samples = 300_000
    rows = np.zeros(samples, row_dtype(20, levels))
    np.save(tmp_path / "index.npy", rows)
    (tmp_path / "a.tar").write_bytes(bytes(10240))
    manifest = Manifest(("a",), (Shard("a.tar", 10240, samples),), made_from="x")
    (tmp_path / "manifest.json").write_bytes(manifest.to_json())
    looked_at = []
    monkeypatch.setattr("mixloader.shards.index.row_problem", lambda row, manifest: looked_at.append(row))
    opened = ShardSet(tmp_path)
    assert len(opened) == samples
    assert len(opened.fingerprint) == 64
    assert len(looked_at) == 2


def test_rows_take_the_longest_key(tmp_path: Path) -> None:
    columns = {"shard": [0, 0], "offset": [512, 1536], "size": [1, 2], "label": [0, 1], "width": [3, 4]}
    rows = make_rows({**columns, "height": [5, 6], "key": [b"a", "bä".encode()]})
    assert rows.dtype == row_dtype(3)
    assert rows["key"].tolist() == [b"a", "bä".encode()]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
