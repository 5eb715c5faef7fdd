from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers.images import cls_members, jpeg, write_tar
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import ShardError
from mixloader.shards import ShardSet
from mixloader.shards.index import Manifest, Shard, make_rows, row_dtype
from mixloader.shards.levels import EXTENSIONS, MOST_LEVELS, SMALLEST_SIDE, level_size, worthwhile_levels

SIDES = st.integers(1, 1 << 16)


@given(SIDES, SIDES, st.integers(0, MOST_LEVELS))
def test_a_level_has_its_share_of_the_pixels_rounded_up(width: int, height: int, level: int) -> None:
    for side, smaller in zip((width, height), level_size(width, height, level), strict=True):
        assert (smaller - 1) * 2**level < side <= smaller * 2**level


@given(SIDES, SIDES, st.integers(0, MOST_LEVELS))
def test_levels_stop_before_they_get_too_small(width: int, height: int, most: int) -> None:
    count = worthwhile_levels(width, height, most)
    sizes = [min(level_size(width, height, level)) for level in range(1, most + 1)]
    assert all(size >= SMALLEST_SIDE for size in sizes[:count])
    assert all(size < SMALLEST_SIDE for size in sizes[count:])


# What each of four samples has beside its image: nothing, a half, all, and a quarter with no half.
MEMBERS = [
    *cls_members([0, 1, 2]),
    ("0001.half.jpg", b"half 1"),
    ("0002.HALF.jpg", b"half 2"),
    ("0002.quarter.jpg", b"quarter 2"),
    ("0002.eighth.jpg", b"eighth 2"),
    ("gap.quarter.jpg", b"quarter of gap"),
    ("gap.png", jpeg()),
    ("gap.cls", b"0"),
]


@pytest.fixture
def leveled(tmp_path: Path) -> Path:
    write_tar(tmp_path / "set" / "a.tar", MEMBERS)
    return tmp_path / "set"


def test_a_scan_finds_levels_by_their_extensions(leveled: Path) -> None:
    for opened in (ShardSet(leveled), ShardSet(leveled)):  # scanned, then kept
        assert opened.levels == 3
        assert [sample.key for sample in opened] == ["0000", "0001", "0002", "gap"]
        assert [bytes(opened.data(2, level)) for level in (1, 2, 3)] == [b"half 2", b"quarter 2", b"eighth 2"]
        assert bytes(opened.data(3, 2)) == b"quarter of gap"
        assert [bytes(opened.data(i)) for i in range(4)] == [bytes(sample.data) for sample in opened]


def test_stored_counts_from_the_half_to_the_first_gap(leveled: Path) -> None:
    stored = ShardSet(leveled).stored(np.array([3, 2, 2, 1, 0]))
    assert stored.dtype == np.int8
    assert stored.tolist() == [0, 3, 3, 1, 0]
    assert ShardSet(leveled).stored(np.array([], np.int64)).tolist() == []


def test_a_set_without_levels_stores_none(shards: Path) -> None:
    opened = ShardSet(shards)
    assert opened.levels == 0
    assert opened.stored(np.array([5, 0])).tolist() == [0, 0]
    assert bytes(opened.data(5)) == bytes(opened[5].data)
    assert "levels" not in np.load(shards / "index.npy").dtype.names


def test_data_of_a_level_is_a_read_only_view(leveled: Path) -> None:
    assert ShardSet(leveled).data(1, 1).readonly


@pytest.mark.parametrize(
    ("i", "level", "message"),
    [
        (0, 1, r"sample 0 of .* has no level 1, it has 0 of the set's 3: ask `stored` first"),
        (1, 2, r"has no level 2, it has 1 of the set's 3"),
        (2, 4, r"has no level 4, it has 3 of the set's 3"),
        (-2, -1, r"has no level -1"),
        (4, 1, r"sample 4 is not among the 4 samples"),
    ],
)
def test_a_level_that_is_not_there(leveled: Path, i: int, level: int, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        ShardSet(leveled).data(i, level)


def test_a_copy_reads_the_same_levels(leveled: Path) -> None:
    copied = pickle.loads(pickle.dumps(ShardSet(leveled)))
    assert copied.levels == 3
    assert bytes(copied.data(2, 2)) == b"quarter 2"


def test_measuring_sizes_keeps_the_levels(leveled: Path) -> None:
    assert ShardSet(leveled).sizes.tolist() == [[20, 30], [21, 30], [22, 30], [40, 30]]
    assert bytes(ShardSet(leveled).data(1, 1)) == b"half 1"


@pytest.mark.parametrize("label", [[], [("x.cls", b"0")]])
def test_a_level_without_its_image_is_refused(tmp_path: Path, label: list[tuple[str, bytes]]) -> None:
    write_tar(tmp_path / "a.tar", [*cls_members([0]), ("x.half.jpg", b"half"), *label])
    with pytest.raises(ShardError, match=r"sample 'x' at offset \d+ has a \.half\.jpg and no image \(half\.jpg"):
        ShardSet(tmp_path)


def test_a_level_twice_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [*cls_members([0]), ("0000.half.jpg", b"a"), ("0000.half.jpg", b"b")])
    with pytest.raises(ShardError, match=r"member '0000\.half\.jpg' at offset \d+ is there a second time"):
        ShardSet(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("offset", 1 << 40), ("offset", -1), ("size", -1), ("size", 1 << 40)])
def test_a_level_outside_its_shard_is_never_read(leveled: Path, field: str, value: int) -> None:
    ShardSet(leveled)
    rows = np.load(leveled / "index.npy")
    rows["levels"][field][1, 0] = value
    np.save(leveled / "index.npy", rows)
    opened = ShardSet(leveled)
    for read in (opened.__getitem__, opened.data):
        with pytest.raises(ShardError, match=r"says .* of a\.tar.* for sample 1: delete"):
            read(1)


@pytest.mark.parametrize("levels", [(), (4,), (2, 2)])
def test_levels_of_another_shape_are_no_index(tmp_path: Path, levels: tuple[int, ...]) -> None:
    level = row_dtype(8, 1)["levels"].base
    dtype = np.dtype([*row_dtype(8).descr, ("levels", level, levels)])
    np.save(tmp_path / "index.npy", np.zeros(3, dtype))
    (tmp_path / "a.tar").write_bytes(bytes(10240))
    manifest = Manifest(("a",), (Shard("a.tar", 10240, 3),), made_from="x")
    (tmp_path / "manifest.json").write_bytes(manifest.to_json())
    with pytest.raises(ShardError, match=r"index\.npy has rows of .*: delete it"):
        ShardSet(tmp_path)


PLACES = st.tuples(st.integers(0, 1 << 40), st.integers(1, 1 << 20))


@given(st.lists(st.lists(PLACES, max_size=len(EXTENSIONS)), max_size=5))
def test_rows_have_room_for_the_most_levels_of_a_sample(levels: list[list[tuple[int, int]]]) -> None:
    zeros = [0] * len(levels)
    numbers = dict.fromkeys(("shard", "offset", "size", "label", "width", "height"), zeros)
    rows = make_rows({**numbers, "key": [b"k"] * len(levels), "levels": levels})
    most = max(map(len, levels), default=0)
    assert rows.dtype == row_dtype(1, most)
    if most:
        assert [[place for place in places if place[1]] for places in rows["levels"].tolist()] == levels
