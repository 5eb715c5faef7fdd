from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.images import cls_members, jpeg, json_members, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

from mixloader.errors import ShardError
from mixloader.shards import ShardSet
from mixloader.shards import catalog as shard_catalog


def test_labels_in_cls(tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", cls_members([2, 0], "b/"))
    write_tar(tmp_path / "a.tar", cls_members([1], "a/"))
    opened = ShardSet(tmp_path)
    assert opened.labels.tolist() == [1, 2, 0]
    assert opened.classes == ("0", "1", "2")
    assert [sample.key for sample in opened] == ["a/0000", "b/0000", "b/0001"]
    assert bytes(opened[2].data) == jpeg(21, 30, 1)


def test_integers_in_json(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", json_members([3, 1], "target"))
    opened = ShardSet(tmp_path, label_key="target")
    assert opened.labels.tolist() == [3, 1]
    assert opened.classes == ("0", "1", "2", "3")


def test_strings_in_json_become_the_classes(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", json_members(["owl", "cat", "owl"]))
    opened = ShardSet(tmp_path, label_key="label")
    assert opened.classes == ("cat", "owl")
    assert opened.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("file", "text"), [("classes.txt", "dog\n cat \n\nowl\n"), ("manifest.json", '{"classes": ["dog", "cat", "owl"]}')]
)
def test_classes_named_beside_the_shards(tmp_path: Path, file: str, text: str) -> None:
    write_tar(tmp_path / "a.tar", json_members(["owl", "cat"]))
    (tmp_path / file).write_text(text)
    opened = ShardSet(tmp_path, label_key="label")
    assert opened.classes == ("dog", "cat", "owl")
    assert opened.labels.tolist() == [2, 1]
    assert (tmp_path / file).read_text() == text or file == "classes.txt"


def test_other_members_are_passed_over(tmp_path: Path) -> None:
    notes = [("README", b"x"), ("notes.txt", b"x"), ("._0000.jpg", b"x"), ("0000.seg.png", b"x"), ("0000.txt", b"x")]
    write_tar(tmp_path / "a.tar", [*notes, *cls_members([0])])
    opened = ShardSet(tmp_path)
    assert [sample.key for sample in opened] == ["0000"]


def test_long_and_foreign_names(tmp_path: Path) -> None:
    names = ["ä" * 150, "d" * 120 + "/x", "Ünï cödé"]
    members = [pair for name in names for pair in ((f"{name}.JPG", jpeg()), (f"{name}.cls", b" 1\n"))]
    write_tar(tmp_path / "a.tar", members)
    assert [(sample.key, sample.label) for sample in ShardSet(tmp_path)] == [(name, 1) for name in names]


IMAGE, LABEL = ("x.jpg", jpeg()), ("x.cls", b"0")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([IMAGE], r"a\.tar: sample 'x' at offset \d+ has no \.cls"),
        ([IMAGE, ("x.json", b"{}")], r"name their field with label_key="),
        ([LABEL], r"a\.tar: sample 'x' at offset 512 has a \.cls and no image"),
        ([IMAGE, ("x.cls", b"cat")], r"sample 'x', its \.cls at offset \d+ holds b'cat': an integer"),
        ([IMAGE, ("x.cls", b"1.0")], r"holds b'1\.0'"),
        ([IMAGE, ("x.cls", b"\xff")], r"an integer in ASCII is needed"),
        ([IMAGE, ("x.cls", b"-1")], r"has the label -1: labels count from 0"),
        ([IMAGE, ("x.cls", b"9" * 30)], r"has the label 9{30}"),
        ([IMAGE, ("x.cls", b"99999999")], r"the label 99999999, too large for a class"),
        ([IMAGE, LABEL, ("x.png", b"")], r"has 2 images \(jpg, png\)"),
        ([IMAGE, LABEL, IMAGE, LABEL], r"member 'x\.jpg' at offset \d+ is there a second time"),
        ([("note.txt", b"")], r"holds no samples in its 1 shards"),
        ([], r"holds no samples"),
    ],
)
def test_unusable_samples(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ShardError, match=message):
        ShardSet(tmp_path)
    assert not (tmp_path / "index.npy").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", r"its \.json at offset \d+ is not JSON"),
        (b'{"other": 1}', r"has no 'label' \(it has other\): correct label_key"),
        (b"[1]", r"has no 'label' \(it has list\)"),
        (b'{"label": 1.5}', r"has label=1\.5: an integer or a string"),
        (b'{"label": true}', r"has label=True"),
        (b'{"label": -3}', r"has the label -3"),
    ],
)
def test_unusable_json(tmp_path: Path, text: bytes, message: str) -> None:
    write_tar(tmp_path / "a.tar", [IMAGE, ("x.json", text)])
    with pytest.raises(ShardError, match=message):
        ShardSet(tmp_path, label_key="label")


def test_labels_of_two_kinds(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", json_members([1, "cat"]))
    with pytest.raises(ShardError, match="two kinds, such as 1 and 'cat'"):
        ShardSet(tmp_path, label_key="label")


def test_labels_outside_the_named_classes(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0, 2]))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ShardError, match=r"sample '0001' at offset \d+ has the label 2, outside the 2 classes"):
        ShardSet(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("\n \n", "names no classes"), ("a\nb\na\n", "the class 'a' twice")])
def test_class_names_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0]))
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ShardError, match=message):
        ShardSet(tmp_path)


def test_the_same_key_in_two_shards(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / f"{name}.tar", cls_members([0]))
    with pytest.raises(ShardError, match=r"b\.tar: sample '0000' at offset \d+ has the key of one in a\.tar"):
        ShardSet(tmp_path)


def test_folders_without_shards(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"holds no \.tar files"):
        ShardSet(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(ShardError, match=r"a\.tar\.gz is compressed: decompress it"):
        ShardSet(tmp_path)


def test_a_compressed_tar_by_another_name(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", cls_members([0]))
    tar.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(ShardError, match=r"a\.tar is compressed \(gzip\): decompress it, samples are read"):
        ShardSet(tmp_path)


def test_what_is_no_tar(tmp_path: Path) -> None:
    for content in (b"", b"x" * 2000):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(ShardError, match=r"a\.tar is not a tar file"):
            ShardSet(tmp_path)
    (tmp_path / "a.tar").unlink()
    (tmp_path / "a.tar").symlink_to(tmp_path / "absent")
    with pytest.raises(ShardError, match=r"a\.tar cannot be read"):
        ShardSet(tmp_path)


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", cls_members([0, 1]))
    data = bytearray(tar.read_bytes())
    second = data.index(b"0001.jpg")
    data[second : second + 8] = b"\xff" * 8
    tar.write_bytes(data)
    with pytest.raises(ShardError, match=rf"a\.tar is damaged: there is no tar header at offset {second}"):
        ShardSet(tmp_path)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_tar_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cut")
    tar = write_tar(folder / "a.tar", cls_members([0, 1]))
    whole = tar.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    tar.write_bytes(whole[: data.draw(st.integers(0, end), label="cut at")])
    with pytest.raises(ShardError, match=r"a\.tar is (cut short|not a tar file)"):
        ShardSet(folder)


NAMES = st.text(st.characters(exclude_characters="./\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(st.binary(max_size=2000), st.integers(0, 50)), min_size=1, max_size=8))
def test_any_set_reads_back(tmp_path_factory: pytest.TempPathFactory, samples: dict[str, tuple[bytes, int]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    members = [
        member
        for key, (data, label) in samples.items()
        for member in ((f"{key}.png", data), (f"{key}.cls", str(label).encode()))
    ]
    write_tar(folder / "a.tar", members)
    for opened in (ShardSet(folder), ShardSet(folder)):  # scanned, then kept
        assert {sample.key: (bytes(sample.data), sample.label) for sample in opened} == samples


def count_scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    scanned: list[Path] = []
    scan = shard_catalog.scan

    def counted(folder: Path, *arguments):
        scanned.append(folder)
        return scan(folder, *arguments)

    monkeypatch.setattr(shard_catalog, "scan", counted)
    return scanned


def test_a_scan_is_kept_beside_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = count_scans(monkeypatch)
    write_tar(tmp_path / "a.tar", cls_members([0, 1]))
    keys = [[sample.key for sample in ShardSet(tmp_path)] for _ in range(3)]
    assert keys[0] == keys[1] == keys[2]
    assert len(scanned) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "index.npy", "manifest.json"]


@pytest.mark.parametrize("change", ["more", "other", "touched", "renamed", "classes", "index", "manifest", "label_key"])
def test_a_scan_is_made_again_when_anything_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    scanned = count_scans(monkeypatch)
    members = [*cls_members([0, 1]), *((f"{i:04d}.json", b'{"label": 1}') for i in range(2))]
    tar = write_tar(tmp_path / "a.tar", members)
    ShardSet(tmp_path)
    if change == "more":
        write_tar(tmp_path / "b.tar", cls_members([7], "b"))
    elif change == "other":
        write_tar(tar, cls_members([0, 1, 7]))
    elif change == "touched":
        os.utime(tar, ns=(1, 1))
    elif change == "renamed":
        tar.rename(tmp_path / "c.tar")
    elif change == "classes":
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
    elif change == "index":
        (tmp_path / "index.npy").write_bytes(b"damaged")
    elif change == "manifest":
        (tmp_path / "manifest.json").write_text(json.dumps({"format": "mixloader-shards", "version": 0}))
        with pytest.raises(ShardError, match="version 0"):
            ShardSet(tmp_path)
        return
    opened = ShardSet(tmp_path, label_key="label" if change == "label_key" else None)
    assert len(scanned) == 2
    assert len(opened) == {"more": 3, "other": 3}.get(change, 2)
    assert len(list(opened)) == len(opened)


def forbid_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As file modes do, which root passes over."""
    write = shard_catalog.write_rows

    def guarded(home: Path, rows: np.ndarray) -> None:
        if home.is_relative_to(folder):
            raise PermissionError(13, "Permission denied")
        write(home, rows)

    monkeypatch.setattr(shard_catalog, "write_rows", guarded)


def test_a_scan_of_a_folder_that_cannot_be_written_to_goes_to_the_users_cache(
    tmp_path: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0, 1]))
    forbid_writing(tmp_path, monkeypatch)
    scanned = count_scans(monkeypatch)
    assert ShardSet(tmp_path).sizes.tolist() == ShardSet(tmp_path).sizes.tolist() == [[20, 30], [21, 30]]
    assert len(scanned) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
    assert len(list(user_cache.glob("mixloader/*/index.npy"))) == 1
    next(user_cache.glob("mixloader/*/manifest.json")).write_text("{")
    assert len(ShardSet(tmp_path)) == 2
    assert len(scanned) == 2


def test_a_scan_that_cannot_be_kept_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0, 1]))
    forbid_writing(Path("/"), monkeypatch)
    opened = ShardSet(tmp_path)
    assert opened.labels.tolist() == [0, 1]
    assert opened.sizes.tolist() == [[20, 30], [21, 30]]


def test_files_of_other_tools_are_left_alone(tmp_path: Path, user_cache: Path) -> None:
    write_tar(tmp_path / "a.tar", cls_members([0, 1]))
    (tmp_path / "manifest.json").write_text('{"made by": "another"}')
    assert len(ShardSet(tmp_path)) == 2
    assert (tmp_path / "manifest.json").read_text() == '{"made by": "another"}'
    assert list(user_cache.glob("mixloader/*/index.npy"))
