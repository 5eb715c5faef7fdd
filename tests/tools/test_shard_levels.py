"""`mixloader shard --levels`: smaller versions in the shards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from helpers.command import call
from helpers.images import encoded, picture

from mixloader.errors import MixloaderError
from mixloader.shards import ShardSet
from mixloader.shards.header import upright_size
from mixloader.shards.levels import EXTENSIONS, level_size
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

SIDES = [40, 64, 100, 128, 150, 256, 90, 300]
STORED = [0, 1, 1, 2, 2, 3, 1, 3]  # of three levels
OPTIONS = ShardOptions(shard_size=3, workers=2, levels=3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of two classes; the sides in `SIDES`, one turned, one a PNG, one a WebP."""
    folder = tmp_path_factory.mktemp("source")
    for i, side in enumerate(SIDES):
        parent = folder / ("cat" if i < 5 else "dog")
        parent.mkdir(exist_ok=True)
        suffix, image_format = {2: ("png", "PNG"), 6: ("webp", "WEBP")}.get(i, ("jpg", "JPEG"))
        data = encoded(picture(side + 10, side, i), image_format, orientation=6 if i == 3 else None)
        (parent / f"{i}.{suffix}").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def leveled(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`source` in three shards with three levels. Shared: copy it to change it."""
    dest = tmp_path_factory.mktemp("leveled")
    write_shards(FolderSource(source), dest, options=OPTIONS)
    return dest


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]


def test_each_image_has_the_levels_of_its_size(source: Path, leveled: Path) -> None:
    opened = ShardSet(leveled)
    assert opened.levels == 3
    assert opened.stored(np.arange(8)).tolist() == STORED
    for i, path in enumerate(sorted(source.glob("*/*"))):
        assert bytes(opened.data(i)) == path.read_bytes()
        for level in range(1, STORED[i] + 1):
            assert upright_size(opened.data(i, level)) == level_size(*opened.sizes[i].tolist(), level)


def test_webdataset_reads_levels_as_members_of_their_sample(leveled: Path) -> None:
    opened = ShardSet(leveled)
    read = list(webdataset.WebDataset(sorted(map(str, leveled.glob("*.tar"))), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in opened]
    for i, sample in enumerate(read):
        found = [sample[extension] for extension in EXTENSIONS if extension in sample]
        assert found == [bytes(opened.data(i, level)) for level in range(1, STORED[i] + 1)]
        assert next(sample[e] for e in ("jpg", "png", "webp") if e in sample) == bytes(opened[i].data)


def test_dali_reads_a_set_with_levels(leveled: Path) -> None:
    dali = pytest.importorskip("nvidia.dali")
    opened = ShardSet(leveled)

    @dali.pipeline_def(batch_size=len(opened), num_threads=1, device_id=None)
    def graph():
        paths = sorted(map(str, leveled.glob("*.tar")))
        return tuple(dali.fn.readers.webdataset(paths=paths, ext=["jpg;png;webp", "half.jpg"]))

    pipeline = graph()
    pipeline.build()
    images, halves = pipeline.run()
    for i, count in enumerate(STORED):
        assert bytes(np.asarray(images[i])) == bytes(opened.data(i))
        assert bytes(np.asarray(halves[i])) == (bytes(opened.data(i, 1)) if count else b"")


def test_a_scan_finds_what_was_written(leveled: Path, tmp_path: Path) -> None:
    written = ShardSet(leveled)
    for forgotten in (["index.npy"], ["index.npy", "manifest.json"]):
        copied = Path(shutil.copytree(leveled, tmp_path / str(len(forgotten))))
        for name in forgotten:
            (copied / name).unlink()
        (copied / "classes.txt").write_text("cat\ndog\n")
        scanned = ShardSet(copied)
        assert scanned.fingerprint == written.fingerprint
        assert scanned.sizes.tolist() == written.sizes.tolist()
        rows = [np.load(folder / "index.npy") for folder in (copied, leveled)]
        assert np.array_equal(*rows)


def test_levels_that_no_image_has_leave_no_trace(image_folder: Path, shards: Path, tmp_path: Path) -> None:
    write_shards(FolderSource(image_folder), tmp_path, options=ShardOptions(shard_size=10, levels=3))
    assert ShardSet(tmp_path).levels == 0  # all are smaller than 64 pixels
    for name in ("index.npy", *(f"shard-{i:06d}.tar" for i in range(3))):
        assert (tmp_path / name).read_bytes() == (shards / name).read_bytes()


class Stop(Exception):  # noqa: N818
    pass


def stopped_run(source: Path, dest: Path, options: ShardOptions, images: int) -> None:
    def progress(done: int, total: int) -> None:
        if done == images:
            raise Stop

    with pytest.raises(Stop):
        write_shards(FolderSource(source), dest, options=options, progress=progress)


def test_a_stopped_run_with_levels_goes_on_to_the_same_bytes(source: Path, leveled: Path, tmp_path: Path) -> None:
    stopped_run(source, tmp_path, OPTIONS, images=5)
    assert write_shards(FolderSource(source), tmp_path, options=OPTIONS).resumed == 3
    assert files(tmp_path) == files(leveled)


@pytest.mark.parametrize("other", [{}, {"levels": 2}, {"levels": 3, "recode": True}])
def test_a_run_with_other_levels_is_not_continued(source: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    stopped_run(source, tmp_path, OPTIONS, images=5)
    with pytest.raises(MixloaderError, match="of another source, or with other options"):
        write_shards(FolderSource(source), tmp_path, options=ShardOptions(shard_size=3, **other))


@pytest.mark.parametrize("levels", [-1, 4])
def test_levels_out_of_range(levels: int) -> None:
    with pytest.raises(MixloaderError, match=rf"levels={levels} is out of range: it must be 0 to 3"):
        ShardOptions(levels=levels)


def test_recoding_and_a_quality_exclude_each_other() -> None:
    with pytest.raises(MixloaderError, match=r"recode and quality=90 exclude each other: .* leave one out"):
        ShardOptions(quality=90, recode=True)


def test_the_command_has_both_options(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "shard", source, tmp_path / "out", "--levels", 2, "--recode", "--shard-size", 3) == 0
    write_shards(FolderSource(source), tmp_path / "same", options=ShardOptions(shard_size=3, levels=2, recode=True))
    assert files(tmp_path / "out") == files(tmp_path / "same")
    assert ShardSet(tmp_path / "out").levels == 2


def test_long_keys_have_room_for_the_extension_of_a_level(tmp_path: Path) -> None:
    (tmp_path / "in" / ("c" * 80)).mkdir(parents=True)
    for name in ("x" * 6, "x" * 7, "x" * 9, "y" * 9, "ä" * 90):
        (tmp_path / "in" / ("c" * 80) / f"{name}.jpg").write_bytes(encoded(picture(130, 130)))
    for levels in (0, 3):
        write_shards(FolderSource(tmp_path / "in"), tmp_path / str(levels), options=ShardOptions(levels=levels))
    plain, leveled = (ShardSet(tmp_path / str(levels)) for levels in (0, 3))
    assert [sample.key for sample in plain][:2] == [sample.key for sample in leveled][:2]
    read = list(webdataset.WebDataset(str(tmp_path / "3" / "shard-000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in leveled]
    assert len({sample.key for sample in leveled}) == 5
    assert all("quarter.jpg" in sample for sample in read)
