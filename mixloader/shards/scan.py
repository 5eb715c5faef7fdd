"""Scanning: what a folder of tar shards holds, read from the tar headers once."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixloader.errors import ShardError
from mixloader.shards.index import UNMEASURED, Manifest, Rows, Shard, make_rows
from mixloader.shards.levels import EXTENSIONS
from mixloader.shards.ordinary import open_ordinary
from mixloader.shards.tar import Member, members, text

IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"})
"""The extensions that are taken for an image, in lower case."""

COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4")

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
_MOST_TEXT = 1 << 24  # bytes of a .cls or .json
_MOST_CLASSES = 1 << 24  # a larger label without class names is a wrong field, not a class


@dataclass(frozen=True, slots=True)
class _Part:
    """One member of a sample: where its data begins and how long it is, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Found:
    key: str
    image: _Part
    label: int | str
    levels: tuple[tuple[int, int], ...]  # offset and size, from the half on; (0, 0) where a later one is there


def scan(
    folder: Path, names: Sequence[str], label_key: str | None, classes: tuple[str, ...] | None
) -> tuple[Manifest, Rows]:
    """The manifest and index rows [N] of the tar files `names` in `folder`. Image sizes stay unmeasured.

    Raises:
        ShardError: a tar is missing, cut, compressed or no tar, or one of its samples is unusable.
    """
    found: list[list[_Found]] = []
    shards: list[Shard] = []
    seen: dict[str, str] = {}
    for name in names:
        shard, samples = _read_shard(folder / name, label_key)
        found.append(samples)
        shards.append(shard)
        for sample in found[-1]:
            if sample.key in seen:
                raise ShardError(
                    f"{folder / name}: sample {_brief(sample.key)} at offset {sample.image.offset} has the key of "
                    f"one in {seen[sample.key]}: every key must be unique in the set"
                )
            seen[sample.key] = name
    if not seen:
        raise ShardError(f"{folder} holds no samples in its {len(names)} shards: an image and a label are needed")
    classes = classes or _classes(folder, found)
    numbers = {name: i for i, name in enumerate(classes)}
    pairs = [(shard, sample) for shard, samples in enumerate(found) for sample in samples]
    rows = make_rows(
        {
            "shard": [shard for shard, _ in pairs],
            "offset": [sample.image.offset for _, sample in pairs],
            "size": [sample.image.size for _, sample in pairs],
            "label": [_number(folder / names[shard], sample, numbers) for shard, sample in pairs],
            "width": [UNMEASURED] * len(pairs),
            "height": [UNMEASURED] * len(pairs),
            "key": [sample.key.encode(errors="surrogateescape") for _, sample in pairs],
            "levels": [sample.levels for _, sample in pairs],
        }
    )
    return Manifest(classes, tuple(shards), label_key), rows


def _classes(folder: Path, found: list[list[_Found]]) -> tuple[str, ...]:
    labels = {sample.label for samples in found for sample in samples}
    texts = {label for label in labels if isinstance(label, str)}
    integers = {label for label in labels if isinstance(label, int)}
    if texts and integers:
        kinds = f"{min(integers)} and {_brief(min(texts))}"
        raise ShardError(f"{folder} has labels of two kinds, such as {kinds}: use one kind")
    if texts:
        return tuple(sorted(texts))
    if max(integers) >= _MOST_CLASSES:
        raise ShardError(
            f"{folder} has the label {max(integers)}, too large for a class: check the labels, or name the "
            "classes in classes.txt"
        )
    return tuple(map(str, range(max(integers) + 1)))


def _number(path: Path, sample: _Found, numbers: dict[str, int]) -> int:
    label = sample.label
    number = numbers.get(label, -1) if isinstance(label, str) else label
    if not 0 <= number < len(numbers):
        where = f"{path}: sample {_brief(sample.key)} at offset {sample.image.offset}"
        raise ShardError(
            f"{where} has the label {_brief(label)}, outside the {len(numbers)} classes: correct the label or the "
            "class names beside the shards"
        )
    return number


def _read_shard(path: Path, label_key: str | None) -> tuple[Shard, list[_Found]]:
    try:
        with open_ordinary(path) as file:
            before = os.fstat(file.fileno())
            found = [_sample(path, file, key, parts, label_key) for key, parts in _grouped(path, file).items()]
            after = os.fstat(file.fileno())
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error}): check that it is there and readable") from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ShardError(f"{path} was written to while it was scanned: open the set again when that is done")
    samples = [sample for sample in found if sample is not None]
    return Shard(path.name, after.st_size, len(samples), mtime_ns=after.st_mtime_ns), samples


def _grouped(path: Path, file: io.FileIO) -> dict[str, dict[str, _Part]]:
    """The members of every sample, by its key and their extensions in lower case."""
    _refuse_compressed(path, file)
    groups: dict[str, dict[str, _Part]] = {}
    for member in members(path, file):
        folder, slash, base = text(member.name).rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot:
            continue  # WebDataset passes over names with no extension, or nothing before the dot
        if member.kind != "file":
            _refuse_stand_in(path, member, extension.lower())
            continue
        parts = groups.setdefault(folder + slash + stem, {})
        if extension.lower() in parts:
            raise ShardError(
                f"{path}: member {_brief(text(member.name))} at offset {member.offset} is there a second time: every "
                "key must be unique"
            )
        parts[extension.lower()] = _Part(member.offset, member.size)
    return groups


def _sample(path: Path, file: io.FileIO, key: str, parts: dict[str, _Part], label_key: str | None) -> _Found | None:
    images = [extension for extension in parts if extension in IMAGES]
    levels = [extension for extension in parts if extension in EXTENSIONS]
    field = "cls" if label_key is None else "json"
    offset = min(part.offset for part in parts.values())
    if len(images) > 1:
        raise ShardError(
            f"{path}: sample {_brief(key)} at offset {offset} has {len(images)} images ({_listed(images)}): keep one"
        )
    if not images and field not in parts and not levels:
        return None  # neither image nor label: a note, not a sample
    if not images:
        raise ShardError(
            f"{path}: sample {_brief(key)} at offset {offset} has a .{levels[0] if levels else field} and no image "
            f"({_listed(parts)}): add its image or take it out"
        )
    if field not in parts:
        hint = "; its labels may be in .json: name their field with label_key=" if "json" in parts else ""
        where = f"{path}: sample {_brief(key)} at offset {offset}"
        raise ShardError(f"{where} has no .{field} to read its label from{hint}")
    part = parts[field]
    where = f"{path}: sample {_brief(key)}, its .{field} at offset {part.offset}"
    if part.size > _MOST_TEXT:
        raise ShardError(f"{where} has {part.size} bytes: a label has at most {_MOST_TEXT}")
    content = os.pread(file.fileno(), part.size, part.offset)
    label = _label(content, where) if label_key is None else _json_label(content, label_key, where)
    return _Found(key, parts[images[0]], label, _levels(parts))


def _levels(parts: dict[str, _Part]) -> tuple[tuple[int, int], ...]:
    found = [parts.get(extension, _Part(0, 0)) for extension in EXTENSIONS]
    while found and not found[-1].size:
        found.pop()
    return tuple((part.offset, part.size) for part in found)


def _label(content: bytes, where: str) -> int:
    try:
        label = int(content.decode("ascii"))
    except ValueError:
        raise ShardError(f"{where} holds {content[:40]!r}: an integer in ASCII is needed") from None
    return _checked(label, where)


def _json_label(content: bytes, label_key: str, where: str) -> int | str:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{where} is not JSON ({_brief(error)}): write it again") from None
    if not isinstance(fields, dict) or label_key not in fields:
        has = _listed(fields) if isinstance(fields, dict) else type(fields).__name__
        raise ShardError(f"{where} has no {label_key!r} (it has {has}): correct label_key")
    label = fields[label_key]
    if isinstance(label, str):
        return label
    if isinstance(label, bool) or not isinstance(label, int):
        raise ShardError(f"{where} has {label_key}={_brief(label)}: an integer or a string is needed")
    return _checked(label, where)


def _checked(label: int, where: str) -> int:
    if not 0 <= label < 1 << 63:
        raise ShardError(f"{where} has the label {_brief(label)}: labels count from 0")
    return label


def _refuse_stand_in(path: Path, member: Member, extension: str) -> None:
    """ShardError for what is no file, or not all of it, and would be read if it were."""
    if extension not in IMAGES and extension not in EXTENSIONS and extension not in ("cls", "json"):
        return
    where = f"{path}: member {_brief(text(member.name))} at offset {member.header}"
    if member.kind == "link":
        raise ShardError(
            f"{where} is a link to {_brief(text(member.link))}: links are not followed, store the file itself"
        )
    if member.kind == "sparse":
        raise ShardError(f"{where} is stored without its holes: make the tar without --sparse")


def _refuse_compressed(path: Path, file: io.FileIO) -> None:
    start = os.pread(file.fileno(), 8, 0)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            raise ShardError(f"{path} is compressed ({kind}): decompress it, samples are read at their offsets")


def _listed(words: Iterable[str]) -> str:
    return " ".join(", ".join(words).split())[:200]


def _brief(value: object) -> str:
    """A value for a message: one line of bounded length, whatever it is."""
    shown = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
