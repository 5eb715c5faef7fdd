from __future__ import annotations

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.images import cls_members, encoded, jpeg, picture, write_tar
from torch.utils.data import DataLoader

from mixloader.errors import MixloaderWarning, ShardError
from mixloader.shards import ShardSet
from mixloader.shards import files as shard_files


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copied"))


def test_samples_are_the_files_of_the_source(shards: Path, image_folder: Path) -> None:
    opened = ShardSet(shards)
    files = sorted(path for path in image_folder.rglob("*") if path.is_file())
    assert len(opened) == len(files) == 24
    assert opened.classes == ("cat", "dog", "owl")
    assert [bytes(sample.data) for sample in opened] == [path.read_bytes() for path in files]
    assert [opened.classes[sample.label] for sample in opened] == [
        path.relative_to(image_folder).parts[0] for path in files
    ]


def test_data_is_read_only(shards: Path) -> None:
    data = ShardSet(shards)[3].data
    assert isinstance(data, memoryview)
    assert data.readonly


def test_labels_and_sizes_agree_with_the_samples(shards: Path) -> None:
    opened = ShardSet(shards)
    assert opened.labels.dtype == np.int64
    assert opened.sizes.dtype == np.int32
    assert opened.sizes.shape == (24, 2)
    assert opened.labels.tolist() == [sample.label for sample in opened]
    assert opened.sizes.tolist() == [[sample.width, sample.height] for sample in opened]
    assert not opened.labels.flags.writeable


def test_ids_count_from_the_end_when_negative(shards: Path) -> None:
    opened = ShardSet(shards)
    assert opened[-1].key == opened[23].key
    assert opened[np.int64(-24)].key == opened[0].key
    for i in (24, -25):
        with pytest.raises(IndexError, match=rf"sample {i} is not among the 24 samples"):
            opened[i]


def test_where_names_shard_member_and_offset(shards: Path) -> None:
    where = ShardSet(shards).where(10)
    assert where.startswith("shard-000001.tar: member 'dog/dog_")
    assert where.endswith("at offset 512")


def test_data_outlives_files_that_were_let_go(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "MOST_OPEN", 1)
    opened = ShardSet(shards)
    samples = list(opened)
    assert [bytes(sample.data) for sample in samples] == [bytes(sample.data) for sample in ShardSet(shards)]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda opened: pickle.loads(pickle.dumps(opened))])
def test_a_copy_reads_the_same(shards: Path, duplicate) -> None:
    opened = ShardSet(shards)
    opened[0]
    other = duplicate(opened)
    assert [bytes(sample.data) for sample in other] == [bytes(sample.data) for sample in opened]
    assert other.fingerprint == opened.fingerprint


def test_a_pickle_holds_no_rows_that_a_file_holds(shards: Path) -> None:
    assert len(pickle.dumps(ShardSet(shards))) < 2000


class Keys:
    def __init__(self, opened: ShardSet) -> None:
        self.opened = opened

    def __len__(self) -> int:
        return len(self.opened)

    def __getitem__(self, i: int) -> str:
        return self.opened[i].key


def test_worker_processes_read_it(shards: Path) -> None:
    opened = ShardSet(shards)
    keys = [key for batch in DataLoader(Keys(opened), batch_size=5, num_workers=1) for key in batch]
    assert keys == [sample.key for sample in opened]


def test_threads_read_it(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "MOST_OPEN", 1)
    opened = ShardSet(shards)
    expected = [bytes(sample.data) for sample in opened]

    def read(seed: int) -> bool:
        ids = np.random.default_rng(seed).integers(0, 24, 2000).tolist()
        return all(opened[i].data == expected[i] for i in ids)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_sizes_are_upright(tmp_path: Path, orientation: int, image_format: str) -> None:
    data = encoded(picture(40, 20), image_format, orientation)
    write_tar(tmp_path / "a.tar", [(f"x.{image_format.lower()}", data), ("x.cls", b"0")])
    opened = ShardSet(tmp_path)
    expected = (20, 40) if orientation >= 5 else (40, 20)
    assert (opened[0].width, opened[0].height) == expected
    assert tuple(opened.sizes[0]) == expected


def test_a_long_header_is_read_to_its_end(tmp_path: Path) -> None:
    data = encoded(picture(40, 20), icc_profile=bytes(200_000))
    write_tar(tmp_path / "a.tar", [("x.jpg", data), ("x.cls", b"0")])
    assert ShardSet(tmp_path).sizes.tolist() == [[40, 20]]


def test_an_unreadable_header_has_no_size(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [*cls_members([0, 1]), ("bad.jpg", b"no image"), ("bad.cls", b"1")])
    opened = ShardSet(tmp_path)
    assert (opened[2].width, opened[2].height) == (0, 0)
    assert opened.sizes.tolist() == [[20, 30], [21, 30], [0, 0]]


def test_measured_sizes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0, 1]))
    sizes = ShardSet(tmp_path).sizes.tolist()
    monkeypatch.setattr("mixloader.shards.shard_set.upright_size", lambda data: pytest.fail("measured again"))
    assert ShardSet(tmp_path).sizes.tolist() == sizes


def test_a_fingerprint_tells_sets_apart(copied: Path, shards: Path, tmp_path: Path) -> None:
    assert ShardSet(copied).fingerprint == ShardSet(shards).fingerprint
    seen = {ShardSet(shards).fingerprint}
    for number, labels in enumerate([[0, 1], [1, 0], [1, 0, 1]]):
        write_tar(tmp_path / str(number) / "a.tar", cls_members(labels))
        seen.add(ShardSet(tmp_path / str(number)).fingerprint)
    assert len(seen) == 4


def test_a_rescan_has_the_fingerprint_of_the_written_set(copied: Path) -> None:
    before = ShardSet(copied).fingerprint
    (copied / "index.npy").unlink()
    (copied / "manifest.json").unlink()
    (copied / "classes.txt").write_text("cat\ndog\nowl\n")
    assert ShardSet(copied).fingerprint == before


def test_a_missing_shard_is_named(copied: Path) -> None:
    (copied / "shard-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000001\.tar is missing"):
        ShardSet(copied)


def test_a_truncated_shard_is_named(copied: Path) -> None:
    shard = copied / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ShardError, match=r"shard-000001\.tar has \d+ bytes, manifest.json says \d+: it is truncated"):
        ShardSet(copied)


def test_a_shard_that_shrinks_while_open_is_named(copied: Path) -> None:
    opened = ShardSet(copied)
    (copied / "shard-000000.tar").write_bytes(b"short")
    with pytest.raises(ShardError, match=r"shard-000000\.tar has 5 bytes"):
        opened[0]
    (copied / "shard-000000.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000000\.tar cannot be opened"):
        opened[0]


def test_a_shard_beside_a_written_set_is_warned_of(copied: Path) -> None:
    write_tar(copied / "other.tar", cls_members([0]))
    with pytest.warns(MixloaderWarning, match=r"other\.tar is not in manifest\.json"):
        assert len(ShardSet(copied)) == 24


def test_a_label_key_does_not_apply_to_a_written_set(shards: Path) -> None:
    with pytest.raises(ShardError, match="label_key='label' does not apply"):
        ShardSet(shards, label_key="label")


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="does not exist"):
        ShardSet(tmp_path / "absent")
    (tmp_path / "file.tar").write_bytes(jpeg())
    with pytest.raises(ShardError, match="is a file"):
        ShardSet(tmp_path / "file.tar")


def test_its_repr_says_what_it_holds(shards: Path) -> None:
    assert repr(ShardSet(shards)) == f"ShardSet({str(shards)!r}: 24 samples, 3 classes, 3 shards)"
