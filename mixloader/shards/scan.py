"""Scanning: what a folder of tar shards holds, read from the tar headers once."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mixloader.errors import ShardError
from mixloader.shards.index import UNMEASURED, Manifest, Rows, Shard, make_rows, one_line
from mixloader.shards.levels import EXTENSIONS

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
    seen: dict[str, str] = {}
    for name in names:
        found.append(_read_shard(folder / name, label_key))
        for sample in found[-1]:
            if sample.key in seen:
                raise ShardError(
                    f"{folder / name}: sample {sample.key!r} at offset {sample.image.offset} has the key of "
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
    shards = tuple(_stamp(folder / name, len(samples)) for name, samples in zip(names, found, strict=True))
    return Manifest(classes, shards, label_key), rows


def _stamp(path: Path, samples: int) -> Shard:
    stat = path.stat()
    return Shard(path.name, stat.st_size, samples, mtime_ns=stat.st_mtime_ns)


def _classes(folder: Path, found: list[list[_Found]]) -> tuple[str, ...]:
    labels = {sample.label for samples in found for sample in samples}
    texts = {label for label in labels if isinstance(label, str)}
    integers = {label for label in labels if isinstance(label, int)}
    if texts and integers:
        raise ShardError(f"{folder} has labels of two kinds, such as {min(integers)} and {min(texts)!r}: use one kind")
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
        raise ShardError(
            f"{path}: sample {sample.key!r} at offset {sample.image.offset} has the label {label!r}, outside "
            f"the {len(numbers)} classes: correct the label or the class names beside the shards"
        )
    return number


def _read_shard(path: Path, label_key: str | None) -> list[_Found]:
    groups: dict[str, dict[str, _Part]] = {}
    for name, part in _members(path):
        folder, slash, base = name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot:
            continue  # WebDataset passes over names with no extension, or nothing before the dot
        parts = groups.setdefault(folder + slash + stem, {})
        if extension.lower() in parts:
            raise ShardError(
                f"{path}: member {name!r} at offset {part.offset} is there a second time: every key must be unique"
            )
        parts[extension.lower()] = part
    with path.open("rb") as file:
        samples = [_sample(path, file, key, parts, label_key) for key, parts in groups.items()]
    return [sample for sample in samples if sample is not None]


def _sample(path: Path, file: IO[bytes], key: str, parts: dict[str, _Part], label_key: str | None) -> _Found | None:
    images = [extension for extension in parts if extension in IMAGES]
    levels = [extension for extension in parts if extension in EXTENSIONS]
    field = "cls" if label_key is None else "json"
    offset = min(part.offset for part in parts.values())
    if len(images) > 1:
        raise ShardError(
            f"{path}: sample {key!r} at offset {offset} has {len(images)} images ({', '.join(images)}): keep one"
        )
    if not images and field not in parts and not levels:
        return None  # neither image nor label: a note, not a sample
    if not images:
        raise ShardError(
            f"{path}: sample {key!r} at offset {offset} has a .{levels[0] if levels else field} and no image "
            f"({', '.join(parts)}): add its image or take it out"
        )
    if field not in parts:
        hint = "; its labels may be in .json: name their field with label_key=" if "json" in parts else ""
        raise ShardError(f"{path}: sample {key!r} at offset {offset} has no .{field} to read its label from{hint}")
    part = parts[field]
    where = f"{path}: sample {key!r}, its .{field} at offset {part.offset}"
    if part.size > _MOST_TEXT:
        raise ShardError(f"{where} has {part.size} bytes: a label has at most {_MOST_TEXT}")
    file.seek(part.offset)
    text = file.read(part.size)
    label = _label(text, where) if label_key is None else _json_label(text, label_key, where)
    return _Found(key, parts[images[0]], label, _levels(parts))


def _levels(parts: dict[str, _Part]) -> tuple[tuple[int, int], ...]:
    found = [parts.get(extension, _Part(0, 0)) for extension in EXTENSIONS]
    while found and not found[-1].size:
        found.pop()
    return tuple((part.offset, part.size) for part in found)


def _label(text: bytes, where: str) -> int:
    try:
        label = int(text.decode("ascii"))
    except ValueError:
        raise ShardError(f"{where} holds {text[:40]!r}: an integer in ASCII is needed") from None
    return _checked(label, where)


def _json_label(text: bytes, label_key: str, where: str) -> int | str:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{where} is not JSON ({error}): write it again") from None
    if not isinstance(fields, dict) or label_key not in fields:
        has = ", ".join(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise ShardError(f"{where} has no {label_key!r} (it has {has}): correct label_key")
    label = fields[label_key]
    if isinstance(label, str):
        return label
    if isinstance(label, bool) or not isinstance(label, int):
        raise ShardError(f"{where} has {label_key}={label!r}: an integer or a string is needed")
    return _checked(label, where)


def _checked(label: int, where: str) -> int:
    if not 0 <= label < 1 << 63:
        raise ShardError(f"{where} has the label {label}: labels count from 0")
    return label


def _is_part(name: str) -> bool:
    """Whether a member of this name would be read."""
    extension = name.rpartition("/")[2].partition(".")[2].lower()
    return extension in IMAGES or extension in EXTENSIONS or extension in ("cls", "json")


def _members(path: Path) -> Iterator[tuple[str, _Part]]:
    """Every regular file in a tar, name and data. tarfile ends quietly where a tar is cut; this does not."""
    try:
        with path.open("rb") as file, _open(path, file) as tar:
            end, last = path.stat().st_size, -1
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= last:  # Python's reader would go round for ever
                    raise ShardError(
                        f"{path} is damaged: member {member.name!r} has {member.size} bytes: copy it again"
                    )
                last = tar.offset
                if (member.issym() or member.islnk()) and _is_part(member.name):
                    raise ShardError(
                        f"{path}: member {member.name!r} at offset {member.offset} is a link to {member.linkname!r}: "
                        "links are not followed, store the file itself"
                    )
                if member.isreg() and member.offset_data + member.size > end:
                    raise ShardError(
                        f"{path} is cut short: member {member.name!r} at offset {member.offset_data} has "
                        f"{member.size} bytes, the file ends at {end}: copy it again"
                    )
                if member.isreg() and not member.issparse():
                    yield member.name, _Part(member.offset_data, member.size)
            file.seek(tar.offset)
            _check_end(path, file.read(tarfile.BLOCKSIZE), tar.offset)
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error}): check that it is there and readable") from None
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, LookupError) as error:  # of damaged headers
        if isinstance(error, ShardError):
            raise
        raise ShardError(f"{path} is cut short or damaged ({one_line(error)}): copy it again") from None


def _open(path: Path, file: IO[bytes]) -> tarfile.TarFile:
    start = file.read(8)
    file.seek(0)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            raise ShardError(f"{path} is compressed ({kind}): decompress it, samples are read at their offsets")
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except tarfile.ReadError as error:
        raise ShardError(f"{path} is not a tar file ({error} at offset 0): copy or write it again") from None


def _check_end(path: Path, block: bytes, offset: int) -> None:
    """An archive ends with a block of zeros; where there is none, members are missing."""
    if len(block) < tarfile.BLOCKSIZE:
        raise ShardError(f"{path} is cut short: it ends at offset {offset} with no end-of-archive block: copy it again")
    if any(block):
        raise ShardError(f"{path} is damaged: there is no tar header at offset {offset}: copy it again")
