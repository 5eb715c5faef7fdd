"""Making the Wesnoth set: 72 x 72 pictures of the units of a game, in a class for each race, split by unit."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixloader.errors import MixloaderError
from mixloader.tools.datasets.debian import unpack_package
from mixloader.tools.datasets.splits import deal_groups

if TYPE_CHECKING:
    from PIL import Image

SIDE = 72
"""Pixels; a fifth of the game's pictures are of other sizes, which are left out."""

_PACKAGE = "wesnoth-1.16-data"
_GRAY = 128  # what is behind a unit: its picture is transparent there, and what colour it has there is left to chance
_OPAQUE = 32  # the alpha from which on a pixel is seen
_LEAST_SEEN = 250  # pixels of a picture (of 5,184): with fewer it shows a spark, a dropped sword or thin smoke
_LEAST_UNITS = 3  # of a class, one for each split
_LEAST_PICTURES = 60  # of a class, so that validation has nine
_NO_UNIT = re.compile(
    "[-_](base|bottom|dive|dust|flame|glow|halo|hover|lightning|mask|rise|shadow|swoosh|top|wind)(?![a-z])"
)
"""In the file names of what the game draws beside or below a unit."""

_DISSOLVED = re.compile("(soulless|zombie)-(.+-)?die-([3-9]|10)")
"""File names of walking corpses that have become a cloud of light, much the same for all."""

_CORPSES = frozenset({"soulless", "zombie"})
_POSES = frozenset({"attack", "defend", "die"})


@dataclass(frozen=True)
class Picture:
    """One picture that goes into the set: its path below the units' folder, its race and its unit."""

    path: Path
    race: str
    unit: str


def wesnoth_folder(data: Path) -> Path:
    """The folder `data/wesnoth`, with the class folders of each split in `train`, `validation` and `test`.

    Where it is not there yet, it is made from Debian's package `wesnoth-1.16-data`.

    Raises:
        MixloaderError: the package is not to be had or holds no units, or the folder cannot be written.
    """
    folder = data / "wesnoth"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as temporary:
        try:
            unpack_package(_PACKAGE, Path(temporary))
        except MixloaderError as error:
            raise MixloaderError(f"Wesnoth's pictures are not to be had from Debian's {_PACKAGE}: {error}") from None
        units = next(Path(temporary).rglob("data/core/images/units"), None)
        if units is None:
            raise MixloaderError(f"Debian's {_PACKAGE} holds no core/images/units: it is no longer what it was")
        part = data / "wesnoth.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            write_splits(units, part)
            part.replace(folder)  # under its own name only when it is whole
        except OSError as error:
            raise MixloaderError(f"{part} cannot be written: {error.strerror or error}") from None
    return folder


def write_splits(units: Path, dest: Path) -> None:
    """Write the pictures below `units` to `dest/<split>/<race>/...`, each opaque on gray, with its file's time.

    Args:
        units: one folder for each race, as in the game.
        dest: a new folder.

    Raises:
        MixloaderError: no race has enough pictures.
    """
    races: dict[str, list[Picture]] = defaultdict(list)
    for picture in find_pictures(units):
        races[picture.race].append(picture)
    sizes = {race: Counter(picture.unit for picture in pictures) for race, pictures in races.items()}
    kept = [race for race, size in sizes.items() if len(size) >= _LEAST_UNITS and size.total() >= _LEAST_PICTURES]
    if not kept:
        raise MixloaderError(f"{units} has no race with {_LEAST_UNITS} units and {_LEAST_PICTURES} pictures")
    for race in kept:
        splits = deal_groups(sizes[race])
        for picture in races[race]:
            target = dest / splits[picture.unit] / picture.path
            target.parent.mkdir(parents=True, exist_ok=True)
            on_gray(units / picture.path).save(target)
            shutil.copystat(units / picture.path, target)  # made again, it is the same source of the same shards


def find_pictures(units: Path) -> Iterator[Picture]:
    """The pictures of units, sorted by path: those of the right size that show something, each different one once.

    Several units share a picture now and then, of a death for example: the first keeps it, so that no two
    splits hold the same one.
    """
    seen: set[bytes] = set()
    for path in sorted(units.glob("*/**/*.png")):
        if _NO_UNIT.search(path.stem) or _DISSOLVED.fullmatch(path.stem) or not _shows_enough(path):
            continue
        digest = hashlib.sha256(on_gray(path).tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            place = path.relative_to(units)
            yield Picture(place, place.parts[0], unit_of(path.stem))


def unit_of(name: str) -> str:
    """The unit that a picture shows, of a file name without extension: `archer` of `archer+female-bow-attack-1`.

    The first word, so that two units of one word (`wolf-rider`, `wolf-great`) count as one, and no unit as
    two. Walking corpses look like what they were, at both of their levels: `zombie-bat-die-1` and
    `soulless-bat` are the corpse of a bat, `zombie-attack-1` that of a man.
    """
    words: list[str] = re.findall("[a-z]+", name) or [name]
    if words[0] not in _CORPSES:
        return words[0]
    body = words[1] if len(words) > 1 and words[1] not in _POSES else "man"
    return f"corpse {body}"


def on_gray(path: Path) -> Image.Image:
    """A picture without its transparency, on a gray that is the same in all."""
    from PIL import Image

    with Image.open(path) as opened:
        unit = opened.convert("RGBA")
    canvas = Image.new("RGBA", unit.size, (_GRAY, _GRAY, _GRAY, 255))
    canvas.alpha_composite(unit)
    return canvas.convert("RGB")


def _shows_enough(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as picture:
        if picture.size != (SIDE, SIDE):
            return False
        return sum(picture.convert("RGBA").getchannel("A").histogram()[_OPAQUE:]) >= _LEAST_SEEN
