"""The catalog of a folder of shards: its manifest and index, found beside the shards, or scanned and kept."""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mixloader.atomic import write_atomically
from mixloader.errors import MixloaderWarning, ShardError
from mixloader.shards.index import (
    INDEX,
    MANIFEST,
    UNFINISHED,
    Manifest,
    Rows,
    read_json,
    read_manifest,
    read_rows,
    write_rows,
)
from mixloader.shards.scan import COMPRESSED, scan

CLASSES = "classes.txt"
"""The file beside the shards, or beside a source, that names the classes, one a line."""


@dataclass(frozen=True)
class Catalog:
    """A manifest, its index rows [N], and the folder they are kept in (None: nowhere could be written to)."""

    manifest: Manifest
    rows: Rows
    home: Path | None

    def keep(self) -> None:
        """Stores the rows in place of those at home, unless that is full or meanwhile holds other shards'."""
        with suppress(OSError, ShardError):
            if self.home is not None and read_manifest(self.home) == self.manifest:
                write_rows(self.home, self.rows)


def open_catalog(folder: Path, label_key: str | None) -> Catalog:
    """The catalog of the shards in `folder`; they are scanned when nobody did before, or they changed since.

    Raises:
        ShardError: the folder or a shard is missing, empty, unfinished, damaged or holds an unusable sample.
    """
    if not folder.is_dir():
        what = "is a file: name the folder of the shards" if folder.exists() else "does not exist: check the path"
        raise ShardError(f"{folder} {what}")
    manifest = read_manifest(folder) if (folder / INDEX).exists() or _is_ours(folder) else None
    if manifest is not None and manifest.written:
        return _open_written(folder, manifest, label_key)
    if (folder / UNFINISHED).exists():
        raise ShardError(
            f"{folder} is not finished: run the same `mixloader shard` command again, it goes on from there"
        )
    return _open_scanned(folder, label_key)


def _open_written(folder: Path, manifest: Manifest, label_key: str | None) -> Catalog:
    if label_key is not None:
        raise ShardError(
            f"label_key={label_key!r} does not apply to {folder}: `mixloader shard` wrote its labels, leave it out"
        )
    check_shards(folder, manifest)
    names = [shard.name for shard in manifest.shards]
    others = sorted(set(tar_names(folder)) - set(names))
    if others:
        warnings.warn(
            f"{folder / others[0]} is not in {MANIFEST} and is not read ({len(others)} such): move it to a "
            "folder of its own",
            MixloaderWarning,
            stacklevel=4,  # whoever opened the ShardSet
        )
    if (folder / INDEX).exists():
        return Catalog(manifest, read_rows(folder, manifest), folder)
    scanned, rows = scan(folder, names, None, manifest.classes)
    if scanned.samples != manifest.samples:
        raise ShardError(
            f"{folder} holds {scanned.samples} samples, {MANIFEST} counts {manifest.samples}: delete "
            f"{MANIFEST}, and the shards are taken as they are"
        )
    with suppress(OSError):
        write_rows(folder, rows)
        return Catalog(manifest, rows, folder)
    return Catalog(manifest, rows, None)


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Compares every shard's size with the manifest's. ShardError where one differs or is missing."""
    for shard in manifest.shards:
        path = folder / shard.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ShardError(
                f"{path} is missing ({error.strerror}), {MANIFEST} names it: copy it there again"
            ) from None
        if size != shard.bytes:
            raise ShardError(
                f"{path} has {size} bytes, {MANIFEST} says {shard.bytes}: it is truncated or was replaced, "
                "copy it again"
            )


def _open_scanned(folder: Path, label_key: str | None) -> Catalog:
    names = tar_names(folder)
    if not names:
        raise ShardError(f"{folder} holds no .tar files: name a folder of shards, or write one with `mixloader shard`")
    classes = _named_classes(folder)
    homes = [folder, _user_cache(folder)]
    for home in homes:
        with suppress(ShardError):  # a damaged scan is made again
            manifest = read_manifest(home)
            if manifest is not None and _is_current(folder, names, manifest, label_key, classes):
                return Catalog(manifest, read_rows(home, manifest), home)
    manifest, rows = scan(folder, names, label_key, classes)
    for home in homes:
        with suppress(OSError):
            if home != folder:
                home.mkdir(parents=True, exist_ok=True)
            elif not _may_write(folder):
                continue
            # The index first: an old manifest beside a new index does not match, and is scanned again.
            write_rows(home, rows)
            write_atomically(home / MANIFEST, manifest.to_json())
            return Catalog(manifest, rows, home)
    return Catalog(manifest, rows, None)


def tar_names(folder: Path) -> list[str]:
    """The names of the shards in `folder`, sorted. Raises ShardError where one is compressed."""
    names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    for name in names:
        if name.endswith(COMPRESSED) and (".tar." in name or name.endswith(".tgz")):
            raise ShardError(f"{folder / name} is compressed: decompress it, samples are read at their offsets")
    return [name for name in names if name.endswith(".tar")]


def _is_current(
    folder: Path,
    names: list[str],
    manifest: Manifest,
    label_key: str | None,
    classes: tuple[str, ...] | None,
) -> bool:
    if manifest.label_key != label_key or [shard.name for shard in manifest.shards] != names:
        return False
    if classes is not None and manifest.classes != classes:
        return False
    stats = [(folder / name).stat() for name in names]
    return all(
        (stat.st_size, stat.st_mtime_ns) == (shard.bytes, shard.mtime_ns)
        for stat, shard in zip(stats, manifest.shards, strict=True)
    )


def _named_classes(folder: Path) -> tuple[str, ...] | None:
    """The classes that classes.txt or another tool's manifest.json names beside the shards."""
    classes = read_class_names(folder / CLASSES)
    if classes is not None or _is_ours(folder):
        return classes  # an own manifest only repeats what the last scan saw
    with suppress(ShardError):  # another tool's file need not be JSON
        fields = read_json(folder / MANIFEST)
        named = fields.get("classes") if isinstance(fields, dict) else None
        if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
            return tuple(named)
    return None


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """The class names in a file, one a line; None when there is no such file. ShardError when it names none."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ShardError(f"{path} cannot be read ({error}): one class name a line, in UTF-8, is needed") from None
    classes = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not classes:
        raise ShardError(f"{path} names no classes: write one a line, or delete it")
    if len(set(classes)) < len(classes):
        twice = next(name for i, name in enumerate(classes) if name in classes[:i])
        raise ShardError(f"{path} names the class {twice!r} twice: class names must be unique")
    return classes


def _is_ours(folder: Path) -> bool:
    with suppress(ShardError):
        return read_manifest(folder) is not None
    return False


def _may_write(folder: Path) -> bool:
    """Whether index.npy and manifest.json can be put beside the shards without overwriting another tool's."""
    return _is_ours(folder) or not ((folder / MANIFEST).exists() or (folder / INDEX).exists())


def _user_cache(folder: Path) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mixloader" / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
