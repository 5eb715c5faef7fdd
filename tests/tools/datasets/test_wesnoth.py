"""The Wesnoth set, made from small trees of made-up pictures."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mixloader.errors import MixloaderError
from mixloader.tools.datasets import wesnoth
from mixloader.tools.datasets.splits import PARTS
from mixloader.tools.datasets.wesnoth import find_pictures, on_gray, unit_of, wesnoth_folder, write_splits
from mixloader.tools.sharding.folder import FolderSource

WORDS = st.sampled_from(["archer", "bow", "attack", "zombie", "soulless", "bat", "die", "elf", "lord", "s"])
NAMES = st.builds(
    lambda words, separators, number: "".join(a + b for a, b in zip(words, separators, strict=False))[:-1] + number,
    st.lists(WORDS, min_size=1, max_size=4),
    st.lists(st.sampled_from("-+_"), min_size=4, max_size=4),
    st.sampled_from(["", "1", "-2"]),
)


def unit(seed: int, side: int = 72, seen: int = 72) -> Image.Image:
    """Random colours everywhere, opaque in the first `seen` columns."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 4), np.uint8)
    pixels[..., 3] = np.where(np.arange(side) < seen, 255, 0)
    return Image.fromarray(pixels)


def write(folder: Path, pictures: dict[str, Image.Image]) -> Path:
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return folder


def race(name: str, units: int = 5, frames: int = 14) -> dict[str, Image.Image]:
    names = [f"{name}/unit{chr(97 + u)}-attack-{f}" for u in range(units) for f in range(frames)]
    return {path: unit(crc32(path.encode())) for path in names}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("archer", "archer"),
        ("archer-bow-attack-1", "archer"),
        ("archer+female-die2", "archer"),
        ("sky_hunter-launch1", "sky"),
        ("fighter2", "fighter"),
        ("masterbowman-idle-1", "masterbowman"),
        ("master-at-arms", "master"),
        ("zombie-bat-die-1", "corpse bat"),
        ("soulless-bat", "corpse bat"),
        ("zombie", "corpse man"),
        ("soulless-attack-2", "corpse man"),
        ("7", "7"),
    ],
)
def test_a_unit_goes_by_its_first_word(name: str, expected: str) -> None:
    assert unit_of(name) == expected


@settings(max_examples=20, deadline=None)
@given(st.sets(NAMES, min_size=3, max_size=12))
def test_no_unit_is_in_two_splits(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr(wesnoth, "_LEAST_PICTURES", 3)
        patch.setattr(wesnoth, "SIDE", 16)
        patch.setattr(wesnoth, "_LEAST_SEEN", 1)
        pictures = {f"elves/{name}": unit(i, side=16) for i, name in enumerate(sorted(names))}
        pictures |= {f"elves/nested/{word}": unit(100 + i, side=16) for i, word in enumerate(("x", "y", "z"))}
        units = write(Path(temporary, "units"), pictures)
        write_splits(units, Path(temporary, "out"))
        splits = defaultdict(set)
        for path in Path(temporary, "out").rglob("*.png"):
            splits[unit_of(path.stem)].add(path.relative_to(temporary).parts[1])
        assert all(len(found) == 1 for found in splits.values())
        assert {split for found in splits.values() for split in found} == set(PARTS)


def test_every_class_is_in_every_split_in_proportion(tmp_path: Path) -> None:
    units = write(tmp_path / "units", race("elves", 10, 8) | race("orcs", 5, 14))
    write_splits(units, tmp_path / "out")
    for split, part in PARTS.items():
        source = FolderSource(tmp_path / "out" / split)
        assert source.classes == ("elves", "orcs")
        assert len(source) / 150 == pytest.approx(part, abs=0.1)


def test_a_picture_that_two_units_share_is_in_one_split(tmp_path: Path) -> None:
    shared = {f"elves/unit{chr(97 + u)}-die": unit(0) for u in range(5)}
    units = write(tmp_path / "units", race("elves") | shared)
    Image.open(units / "elves" / "unitb-die.png").save(units / "elves" / "unitb-die.png", compress_level=1)
    write_splits(units, tmp_path / "out")
    kept = files(tmp_path / "out")
    assert len(set(kept.values())) == len(kept) == 71
    assert [name for name in kept if "die" in name] == [name for name in kept if "unita-die" in name]


def test_pictures_that_show_no_unit_are_left_out(tmp_path: Path) -> None:
    good = ["shadow", "fire-ant-attack", "zombie-die-2", "topman-windy", "grand/deep/lord"]
    bad = ["ant-flame1", "falcon-shadow", "jinn-top-hi", "zombie-bat-die-3", "soulless-die-10", "hunter_halo"]
    pictures = {f"a/{name}": unit(i) for i, name in enumerate(good + bad)}
    pictures |= {"a/large": unit(50, side=73), "a/gone-die-9": unit(51, seen=3), "loose": unit(52)}
    found = [picture.path.as_posix() for picture in find_pictures(write(tmp_path, pictures))]
    assert found == sorted(f"a/{name}.png" for name in good)


def test_what_is_transparent_becomes_gray(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., :3] = 200, 100, 0
    pixels[0, :, 3] = 255, 0
    pixels[1, :, 3] = 128, 1
    write(tmp_path, {"unit": Image.fromarray(pixels)})
    drawn = np.asarray(on_gray(tmp_path / "unit.png")).astype(int)
    assert drawn[0].tolist() == [[200, 100, 0], [128, 128, 128]]
    assert np.abs(drawn[1, 0] - [164, 114, 64]).max() <= 1
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 255, 10, 20, 30])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    drawn = np.asarray(on_gray(tmp_path / "palette.png"))
    assert drawn[0].tolist() == [[10, 20, 30], [128, 128, 128]]


def test_races_that_cannot_be_split_are_left_out(tmp_path: Path) -> None:
    units = write(tmp_path / "units", race("elves", 3, 20) | race("ogres", 2, 40) | race("woses", 5, 11))
    write_splits(units, tmp_path / "out")
    assert FolderSource(tmp_path / "out" / "train").classes == ("elves",)
    with pytest.raises(MixloaderError, match="no race with 3 units and 60 pictures"):
        write_splits(write(tmp_path / "few", race("ogres", 2, 40)), tmp_path / "other")


def test_the_set_made_again_is_the_same_source(tmp_path: Path) -> None:
    units = write(tmp_path / "units", race("elves"))
    for name in ("once", "again"):
        write_splits(units, tmp_path / name)
    assert files(tmp_path / "once") == files(tmp_path / "again")
    prints = [FolderSource(tmp_path / name / "train").fingerprint for name in ("once", "again")]
    assert prints[0] == prints[1]


def test_the_package_is_unpacked_once_and_a_half_made_set_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def unpack(name: str, into: Path) -> None:
        asked.append(name)
        write(into / "usr" / "share" / "data" / "core" / "images" / "units", race("elves"))

    monkeypatch.setattr(wesnoth, "unpack_package", unpack)
    write(tmp_path / "wesnoth.part" / "train", {"elves/left-over": unit(0)})
    folder = wesnoth_folder(tmp_path)
    assert wesnoth_folder(tmp_path) == folder == tmp_path / "wesnoth"
    assert asked == ["wesnoth-1.16-data"]
    assert len(files(folder)) == 70
    assert not (tmp_path / "wesnoth.part").exists()


def test_failures_say_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, into: Path) -> Any:
        raise MixloaderError("no network")

    monkeypatch.setattr(wesnoth, "unpack_package", refuse)
    with pytest.raises(MixloaderError, match=r"not to be had from Debian's wesnoth-1\.16-data: no network"):
        wesnoth_folder(tmp_path)
    monkeypatch.setattr(wesnoth, "unpack_package", lambda name, into: None)
    with pytest.raises(MixloaderError, match="holds no core/images/units"):
        wesnoth_folder(tmp_path)
    monkeypatch.setattr(wesnoth, "unpack_package", lambda name, into: write(into / "data/core/images/units", race("a")))
    (tmp_path / "file").touch()
    with pytest.raises(MixloaderError, match=r"wesnoth\.part cannot be written: Not a directory"):
        wesnoth_folder(tmp_path / "file")
