"""The index and the manifest: what a folder of shards holds, without opening a shard."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mixloader.atomic import write_atomically
from mixloader.errors import ShardError
from mixloader.shards.levels import MOST_LEVELS
from mixloader.shards.member import HEADER

INDEX = "index.npy"
MANIFEST = "manifest.json"
UNFINISHED = ".mixloader-unfinished"
"""The folder beside the shards that a writer keeps while it is not done."""

UNMEASURED = -1
"""What width and height hold until the image header was read; 0 says that it could not be read."""

Rows = npt.NDArray[np.void]

_FORMAT = "mixloader-shards"
_VERSION = 1


_LEVEL = np.dtype([("offset", "<i8"), ("size", "<i8")])  # in the image's own shard; size 0: not stored


def row_dtype(key_bytes: int, levels: int = 0) -> np.dtype[np.void]:
    """The dtype of an index row.

    Args:
        key_bytes: the longest key, in bytes of UTF-8.
        levels: how many levels a sample has at most. The rows of a set without any have no field for them.
    """
    fields: list[Any] = [
        ("shard", "<i4"),
        ("offset", "<i8"),
        ("size", "<i8"),
        ("label", "<i8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("key", f"S{max(key_bytes, 1)}"),
    ]
    if levels:
        fields.append(("levels", _LEVEL, (levels,)))
    return np.dtype(fields)


def row_levels(dtype: np.dtype[np.void]) -> int:
    """How many levels rows of this dtype have room for."""
    if "levels" not in (dtype.names or ()):
        return 0
    return dtype["levels"].shape[0] if dtype["levels"].shape else 1


def make_rows(columns: Mapping[str, Sequence[Any]]) -> Rows:
    """Index rows [N] from one sequence of N per column.

    `key` holds UTF-8 bytes, `levels`, which may be absent, for each sample the (offset, size) of its levels from the
    half on. The rows have room for the most that a sample has.
    """
    keys, levels = columns["key"], columns.get("levels", ())
    most = max(map(len, levels), default=0)
    rows = np.empty(len(keys), row_dtype(max(map(len, keys), default=1), most))
    for name, values in columns.items():
        if name != "levels":
            rows[name] = values
    if most:
        rows["levels"] = [[*stored, *[(0, 0)] * (most - len(stored))] for stored in levels]
    return rows


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file. `sha256` is None where it was only scanned, `mtime_ns` where we wrote it."""

    name: str
    bytes: int
    samples: int
    sha256: str | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image of the source that is not in the shards, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What stands in manifest.json.

    Attributes:
        classes: the class names; label i is `classes[i]`.
        shards: the tar files, in the order of the index's `shard` column.
        label_key: the key of the samples' .json that the labels were read from; None for .cls.
        made_from: a digest of the source and options that `mixloader shard` wrote this from; None for a scan.
        options: the options it was written with.
        skipped: what was left out.
    """

    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    label_key: str | None = None
    made_from: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()

    @property
    def samples(self) -> int:
        """How many samples the shards hold together."""
        return sum(shard.samples for shard in self.shards)

    @property
    def written(self) -> bool:
        """Whether `mixloader shard` wrote these shards; they were scanned otherwise."""
        return self.made_from is not None

    def problem(self) -> str | None:
        """What makes this no manifest, in words; None when nothing does."""
        if not self.classes or not all(isinstance(name, str) for name in self.classes):
            return "classes are names, at least one"
        if len(set(self.classes)) < len(self.classes):
            return "a class is named twice"
        if not all(word is None or isinstance(word, str) for word in (self.label_key, self.made_from)):
            return "label_key and made_from are text or null"
        if not isinstance(self.options, dict):
            return "options are an object"
        if not all(isinstance(word, str) for left in self.skipped for word in (left.source, left.reason)):
            return "what was skipped has a source and a reason"
        names = [shard.name for shard in self.shards]
        return next(filter(None, map(_shard_problem, self.shards)), None) or (
            "a shard is named twice" if len(set(names)) < len(names) else None
        )

    def to_json(self) -> bytes:
        """The bytes of manifest.json."""
        head = {"format": _FORMAT, "version": _VERSION, "samples": self.samples}
        return (json.dumps({**head, **asdict(self)}, indent=1) + "\n").encode()


def _shard_problem(shard: Shard) -> str | None:
    # Types are what was meant to be there; JSON may hold anything.
    name, checksum, changed = cast("tuple[object, object, object]", (shard.name, shard.sha256, shard.mtime_ns))
    # It is opened in the folder of the set, and nowhere else.
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & {"/", "\\", "\0"}:
        return f"{name!r} is no name of a shard"
    if not all(_is_count(number) for number in (shard.bytes, shard.samples)):
        return f"shard {name} has {shard.bytes!r} bytes and {shard.samples!r} samples"
    if not (checksum is None or isinstance(checksum, str)):
        return f"shard {name} has the checksum {checksum!r}"
    if not (changed is None or _is_count(changed)):
        return f"shard {name} has the time {changed!r}"
    return None


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number < 1 << 63


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in `folder`; None when there is none, or one of another tool.

    Raises:
        ShardError: it is ours and damaged, or of a newer version, or it is no JSON at all.
    """
    path = folder / MANIFEST
    fields = read_json(path)
    if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
        return None
    if fields.get("version") != _VERSION:
        raise ShardError(
            f"{path} has version {str(fields.get('version'))[:40]}; this mixloader reads version {_VERSION}: upgrade "
            "mixloader, or write the shards again"
        )
    try:
        manifest = Manifest(
            classes=tuple(fields["classes"]),
            shards=tuple(Shard(**shard) for shard in fields["shards"]),
            label_key=fields["label_key"],
            made_from=fields["made_from"],
            options=fields["options"],
            skipped=tuple(Skipped(**skipped) for skipped in fields["skipped"]),
        )
        problem = manifest.problem() or (None if _is_count(fields["samples"]) else "it counts no samples")
    except (KeyError, TypeError) as error:
        problem = repr(error)
    if problem:
        raise ShardError(f"{path} is damaged ({problem[:200]}): {_REMEDY}")
    if manifest.samples != fields["samples"]:
        raise ShardError(f"{path} counts {fields['samples']} samples, its shards {manifest.samples}: {_REMEDY}")
    return manifest


_REMEDY = f"delete it and {INDEX}, and the shards are scanned again"


def read_json(path: Path) -> Any:
    """What the JSON file at `path` holds; None when there is no such file.

    Raises:
        ShardError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ShardError(f"{path} cannot be read as JSON ({one_line(error)}): {_REMEDY}") from None


def read_rows(folder: Path, manifest: Manifest) -> Rows:
    """The index rows [N] in `folder`, memory-mapped. The checks cost the same for any number of samples.

    Raises:
        ShardError: the index is missing, damaged, or of other shards than the manifest's.
    """
    path = folder / INDEX
    try:
        rows: Rows = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except Exception as error:  # numpy raises a dozen kinds for a header that is damaged
        raise _bad_index(path, f"cannot be read ({one_line(error)})") from None
    names = rows.dtype.names or ()
    levels = min(row_levels(rows.dtype), MOST_LEVELS)
    if rows.ndim != 1 or "key" not in names or rows.dtype != row_dtype(rows.dtype["key"].itemsize, levels):
        raise _bad_index(path, f"has rows of {rows.dtype.descr}, not {row_dtype(1).descr}")
    if len(rows) != manifest.samples:
        raise _bad_index(path, f"has {len(rows)} rows, but {MANIFEST} counts {manifest.samples}")
    for i in (0, -1)[: len(rows)]:
        problem = row_problem(rows[i], manifest)
        if problem:
            raise _bad_index(path, f"says {problem}")
    return rows


def row_problem(row: np.void, manifest: Manifest) -> str | None:
    """What makes one index row impossible, in words; None when nothing does."""
    shard, offset, size, label = (int(row[name]) for name in ("shard", "offset", "size", "label"))
    if not 0 <= shard < len(manifest.shards):
        return f"shard {shard} of {len(manifest.shards)}"
    entry = manifest.shards[shard]
    levels = row["levels"].tolist() if row_levels(row.dtype) else ()
    for start, length in ((offset, size), *levels):
        if not (start or length) and (start, length) != (offset, size):
            continue  # a level that is not stored
        if start < HEADER or length < 0 or start + length > entry.bytes:
            return f"{length} bytes at offset {start} of {entry.name}, which has {entry.bytes}"
    if not 0 <= label < len(manifest.classes):
        return f"label {label} of {len(manifest.classes)} classes"
    return None


def one_line(error: Exception) -> str:
    """What was raised, in one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _bad_index(path: Path, problem: str) -> ShardError:
    return ShardError(f"{path} {problem}: delete it, and the shards are scanned again")


def write_rows(folder: Path, rows: Rows) -> None:
    """Puts index.npy into `folder`, atomically. OSError when that fails."""
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    write_atomically(folder / INDEX, buffer.getbuffer())


def fingerprint(manifest: Manifest, rows: Rows) -> str:
    """A hex digest of what the set is: classes, counts, shards, and up to 1024 evenly spaced rows.

    A written set and a scan of the same files agree: what only one of them knows is left out.
    """
    shards = [(shard.name, shard.bytes, shard.samples) for shard in manifest.shards]
    digest = hashlib.sha256(json.dumps([manifest.classes, shards]).encode())
    picked = rows[np.unique(np.linspace(0, len(rows) - 1, 1024).astype(np.int64))]
    for name in ("shard", "offset", "size", "label", "key"):  # levels show in the shards' sizes and the offsets
        digest.update(repr(picked[name].tolist()).encode())
    return digest.hexdigest()
