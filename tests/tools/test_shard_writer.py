from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from helpers.images import encoded, jpeg, picture, write_image_folder, write_tar

from mixloader.errors import MixloaderError, ShardError
from mixloader.shards import ShardSet
from mixloader.shards.index import read_manifest
from mixloader.tools.sharding import unfinished, writer
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]


def test_webdataset_reads_the_same(shards: Path) -> None:
    tars = sorted(map(str, shards.glob("*.tar")))
    opened = ShardSet(shards)
    read = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in opened]
    assert [next(sample[e] for e in ("jpg", "png", "webp") if e in sample) for sample in read] == [
        bytes(sample.data) for sample in opened
    ]
    assert [int(sample["cls"]) for sample in read] == opened.labels.tolist()


def test_dali_reads_the_same(shards: Path) -> None:
    dali = pytest.importorskip("nvidia.dali")
    opened = ShardSet(shards)

    @dali.pipeline_def(batch_size=len(opened), num_threads=1, device_id=None)
    def graph():
        paths = sorted(map(str, shards.glob("*.tar")))
        return tuple(dali.fn.readers.webdataset(paths=paths, ext=["jpg;png;webp", "cls"]))

    pipeline = graph()
    pipeline.build()
    images, labels = pipeline.run()
    assert [bytes(np.asarray(images[i])) for i in range(len(opened))] == [bytes(sample.data) for sample in opened]
    assert [int(bytes(np.asarray(labels[i]))) for i in range(len(opened))] == opened.labels.tolist()


def test_the_manifest_says_what_was_written(shards: Path) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    assert manifest["classes"] == ["cat", "dog", "owl"]
    assert manifest["samples"] == 24
    assert [shard["samples"] for shard in manifest["shards"]] == [10, 10, 4]
    assert manifest["options"] == {"max_size": None, "quality": None, "shard_size": 10}
    for shard in manifest["shards"]:
        assert shard["sha256"] == hashlib.sha256((shards / shard["name"]).read_bytes()).hexdigest()
    assert sorted(path.name for path in shards.iterdir()) == [
        "index.npy",
        "manifest.json",
        *(f"shard-{i:06d}.tar" for i in range(3)),
    ]


def test_headers_depend_on_no_clock_or_user(shards: Path) -> None:
    with tarfile.open(shards / "shard-000000.tar") as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in tar} == {(0, 0, 0, "")}


def test_workers_change_no_byte(image_folder: Path, shards: Path, tmp_path: Path) -> None:
    write_shards(FolderSource(image_folder), tmp_path, options=ShardOptions(shard_size=10, workers=5))
    assert files(tmp_path) == files(shards)


def test_progress_counts_every_image(image_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    options = ShardOptions(shard_size=7, workers=2)
    write_shards(FolderSource(image_folder), tmp_path, options=options, progress=lambda *now: seen.append(now))
    assert seen == [(i, 24) for i in range(1, 25)]


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_size", 0), ("quality", 0), ("quality", 101), ("shard_size", 0), ("workers", -1)],
)
def test_options_out_of_range(option: str, value: int) -> None:
    with pytest.raises(MixloaderError, match=rf"{option}={value} is out of range"):
        ShardOptions(**{option: value})


def test_unreadable_images_are_left_out_and_listed(tmp_path: Path) -> None:
    source = write_image_folder(tmp_path / "in", per_class=2)
    whole = jpeg(200, 200)
    (source / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "dog" / "text.png").write_bytes(b"not an image")
    (source / "owl" / "empty.jpg").write_bytes(b"")
    summary = write_shards(FolderSource(source), tmp_path / "out")
    assert [skipped.source for skipped in summary.manifest.skipped] == ["cat/cut.jpg", "dog/text.png", "owl/empty.jpg"]
    assert all(skipped.reason and "\n" not in skipped.reason for skipped in summary.manifest.skipped)
    assert read_manifest(tmp_path / "out") == summary.manifest
    assert len(ShardSet(tmp_path / "out")) == 6


def test_a_file_that_goes_away_is_left_out(tmp_path: Path) -> None:
    source = write_image_folder(tmp_path / "in", per_class=2)
    opened = FolderSource(source)
    (source / "cat" / "cat_0.jpg").unlink()
    summary = write_shards(opened, tmp_path / "out")
    assert [(s.source, s.reason) for s in summary.manifest.skipped] == [
        ("cat/cat_0.jpg", "cannot be read: No such file or directory")
    ]


def test_a_shard_of_nothing_readable_is_not_written(tmp_path: Path) -> None:
    source = write_image_folder(tmp_path / "in", ("a", "b", "c"), per_class=2)
    for path in (source / "b").iterdir():
        path.write_bytes(b"bad")
    summary = write_shards(FolderSource(source), tmp_path / "out", options=ShardOptions(shard_size=2))
    assert [shard.name for shard in summary.manifest.shards] == ["shard-000000.tar", "shard-000002.tar"]
    assert [ShardSet(tmp_path / "out")[i].label for i in range(4)] == [0, 0, 2, 2]


def test_nothing_readable_at_all(tmp_path: Path) -> None:
    (tmp_path / "in" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "cat" / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(MixloaderError, match=r"none of the 1 images could be read, the first is cat/bad\.jpg"):
        write_shards(FolderSource(tmp_path / "in"), tmp_path / "out")


class Stop(Exception):  # noqa: N818
    pass


def stop_after(images: int):
    def progress(done: int, total: int) -> None:
        if done == images:
            raise Stop

    return progress


OPTIONS = ShardOptions(shard_size=5, workers=2)


def stopped_run(source: Path, dest: Path, images: int = 13) -> None:
    with pytest.raises(Stop):
        write_shards(FolderSource(source), dest, options=OPTIONS, progress=stop_after(images))


@pytest.mark.parametrize("images", [1, 5, 13, 24])
def test_a_stopped_run_goes_on(image_folder: Path, tmp_path: Path, images: int) -> None:
    stopped_run(image_folder, tmp_path / "out", images)
    with pytest.raises(ShardError, match="is not finished: run the same `mixloader shard` command again"):
        ShardSet(tmp_path / "out")
    summary = write_shards(FolderSource(image_folder), tmp_path / "out", options=OPTIONS)
    assert summary.resumed == (images - 1) // 5 * 5
    write_shards(FolderSource(image_folder), tmp_path / "whole", options=OPTIONS)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    "damage",
    [
        lambda dest: (dest / "shard-000000.tar").write_bytes(b"cut"),
        lambda dest: (dest / "shard-000001.tar").unlink(),
        lambda dest: (dest / ".mixloader-unfinished/shard-000000/part.json").write_text("{"),
        lambda dest: (dest / ".mixloader-unfinished/shard-000000/index.npy").write_bytes(b""),
    ],
)
def test_a_damaged_part_is_written_again(image_folder: Path, tmp_path: Path, damage) -> None:
    stopped_run(image_folder, tmp_path / "out")
    damage(tmp_path / "out")
    assert write_shards(FolderSource(image_folder), tmp_path / "out", options=OPTIONS).resumed == 5
    write_shards(FolderSource(image_folder), tmp_path / "whole", options=OPTIONS)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_stopped_run_of_other_options_or_another_source_is_not_continued(image_folder: Path, tmp_path: Path) -> None:
    stopped_run(image_folder, tmp_path / "out")
    with pytest.raises(MixloaderError, match="holds an unfinished run of another source, or with other options"):
        write_shards(FolderSource(image_folder), tmp_path / "out", options=ShardOptions(shard_size=6))
    other = write_image_folder(tmp_path / "other", per_class=3)
    with pytest.raises(MixloaderError, match="run that command again, name another folder"):
        write_shards(FolderSource(other), tmp_path / "out", options=OPTIONS)


def test_a_finished_set_is_left_as_it_is(image_folder: Path, shards: Path, tmp_path: Path) -> None:
    dest = Path(shutil.copytree(shards, tmp_path / "out"))
    summary = write_shards(FolderSource(image_folder), dest, options=ShardOptions(shard_size=10))
    assert summary.already
    assert summary.manifest.samples == 24
    with pytest.raises(MixloaderError, match="already holds shards of another source, or written with other options"):
        write_shards(FolderSource(image_folder), dest, options=ShardOptions(shard_size=11))
    (dest / "shard-000000.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000000\.tar is missing"):
        write_shards(FolderSource(image_folder), dest, options=ShardOptions(shard_size=10))


def test_shards_of_others_are_not_mixed_in(image_folder: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "theirs.tar", [("x.jpg", jpeg()), ("x.cls", b"0")])
    with pytest.raises(MixloaderError, match="already holds shards"):
        write_shards(FolderSource(image_folder), tmp_path)


def test_a_full_disk_is_one_line_and_leaves_no_half_shard(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(writer.os, "fsync", full)
        with pytest.raises(MixloaderError, match=r"\(No space left on device\): make room") as caught:
            write_shards(FolderSource(image_folder), tmp_path / "out", options=OPTIONS)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.part"))
    assert write_shards(FolderSource(image_folder), tmp_path / "out", options=OPTIONS).resumed == 10


def test_a_destination_that_is_a_file(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(MixloaderError, match="shards cannot be written to"):
        write_shards(FolderSource(image_folder), tmp_path / "out")


def test_a_run_killed_before_its_cleaning_up_is_finished(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.shutil, "rmtree", lambda folder: None)
        write_shards(FolderSource(image_folder), tmp_path, options=OPTIONS)
    assert len(ShardSet(tmp_path)) == 24
    assert write_shards(FolderSource(image_folder), tmp_path, options=OPTIONS).already
    assert not list(tmp_path.glob(".*"))


def test_long_names_and_odd_names_fit(tmp_path: Path) -> None:
    names = ["a.b.c.jpg", "a_b.c.jpg", "x" * 200 + ".jpg", "ä" * 100 + ".jpg", "ok.png", "ok.jpg", ".jpg.jpg"]
    (tmp_path / "in" / "Ünï").mkdir(parents=True)
    for i, name in enumerate(names):
        data = encoded(picture(10 + i, 10), "PNG") if name.endswith("png") else jpeg(10 + i, 10)
        (tmp_path / "in" / "Ünï" / name).write_bytes(data)
    write_shards(FolderSource(tmp_path / "in"), tmp_path / "out")
    opened = ShardSet(tmp_path / "out")
    assert len(opened) == 6  # hidden files are passed over
    assert len({sample.key for sample in opened}) == 6
    read = list(webdataset.WebDataset(str(tmp_path / "out" / "shard-000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in opened]
