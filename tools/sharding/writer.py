"""Writing a source into shards, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mixloader.atomic import write_atomically
from mixloader.errors import MixloaderError
from mixloader.shards.catalog import check_shards, tar_names
from mixloader.shards.index import (
    MANIFEST,
    UNFINISHED,
    Manifest,
    Rows,
    Shard,
    Skipped,
    make_rows,
    read_manifest,
    row_dtype,
    row_levels,
    write_rows,
)
from mixloader.shards.levels import MOST_LEVELS
from mixloader.tools.sharding.encode import Encoded, encode
from mixloader.tools.sharding.keys import key_with_levels
from mixloader.tools.sharding.sources import Source, UnreadableImageError, printable
from mixloader.tools.sharding.tar import ShardTar
from mixloader.tools.sharding.unfinished import Part, Unfinished

_WAITING_PER_WORKER = 8  # images that are encoded ahead of the one being written


@dataclass(frozen=True)
class ShardOptions:
    """How shards are written.

    Args:
        max_size: the longest side in pixels; larger images are shrunk to it. None keeps every size.
        quality: JPEG or WebP quality, 1 to 100, to encode every image at. None copies what can be copied.
        shard_size: images of the source in one shard.
        workers: threads that decode and encode; does not change what is written.
        levels: how many smaller versions of every image to store beside it, 0 to 3: half, quarter, eighth.
        recode: encode JPEGs again that would be copied, as they are but with restart markers. Not quite lossless.

    Raises:
        MixloaderError: a value is out of range, or `recode` and `quality` are both given.
    """

    max_size: int | None = None
    quality: int | None = None
    shard_size: int = 5000
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    levels: int = 0
    recode: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name in ("max_size", "quality", "shard_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise MixloaderError(f"{name}={value} is out of range: it must be 1 or more")
        if self.quality is not None and self.quality > 100:
            raise MixloaderError(f"quality={self.quality} is out of range: it must be 1 to 100")
        if not 0 <= self.levels <= MOST_LEVELS:
            raise MixloaderError(f"levels={self.levels} is out of range: it must be 0 to {MOST_LEVELS}")
        if self.recode and self.quality is not None:
            raise MixloaderError(
                f"recode and quality={self.quality} exclude each other: a quality encodes every image again, leave "
                "one out"
            )

    @property
    def recorded(self) -> dict[str, Any]:
        """Those that change what is written."""
        kept: dict[str, Any] = {"max_size": self.max_size, "quality": self.quality, "shard_size": self.shard_size}
        asked = {"levels": self.levels, "recode": self.recode}  # where they are not, a set is what it always was
        return kept | {name: value for name, value in asked.items() if value}


@dataclass(frozen=True)
class Summary:
    """What `write_shards` did.

    Attributes:
        dest: the folder of the shards.
        manifest: what it holds now.
        resumed: how many images an earlier, stopped run had done already.
        already: whether the same set was there, finished, and nothing was written.
    """

    dest: Path
    manifest: Manifest
    resumed: int
    already: bool


def write_shards(
    source: Source,
    dest: Path,
    *,
    options: ShardOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Writes every readable image of `source`, in order, into tar shards in `dest`, with index and manifest.

    A run that was stopped, however, goes on at its first unfinished shard when it is called again; the
    result is the same, byte for byte. The index and a few images per worker are in memory, never the set.

    Args:
        source: the images.
        dest: the folder; it is made, and must hold no shards but those of the same source and options.
        options: how to write; the defaults when None.
        progress: called with how many images are done, and of how many, after each.

    Raises:
        MixloaderError: `dest` holds something else, another run is writing to it, it cannot be written, or no image
            could be read.
    """
    options = options or ShardOptions()
    identity = json.dumps([source.fingerprint, options.recorded], sort_keys=True)
    made_from = hashlib.sha256(identity.encode()).hexdigest()
    try:
        finished = _finished(dest, made_from)
        if finished is not None:
            # Left over where a run was killed between its last file and its cleaning up.
            shutil.rmtree(dest / UNFINISHED, ignore_errors=True)
            return Summary(dest, finished, 0, already=True)
        with closing(Unfinished(dest, made_from)) as unfinished:
            parts, resumed = _write_parts(source, unfinished, options, progress or (lambda done, total: None))
            manifest, rows = _joined(source.classes, parts, made_from, options)
            write_rows(dest, rows)
            write_atomically(dest / MANIFEST, manifest.to_json())
            unfinished.remove()
    except OSError as error:
        raise MixloaderError(
            f"shards cannot be written to {dest} ({error.strerror or error}): make room or access there, then "
            "run the same command again, it goes on from there"
        ) from None
    return Summary(dest, manifest, resumed, already=False)


def _finished(dest: Path, made_from: str) -> Manifest | None:
    """The manifest of the same set, finished, in `dest`; None when there is none, and a run may write there."""
    if not dest.is_dir():
        return None
    manifest = read_manifest(dest)
    if manifest is not None and manifest.made_from == made_from:
        check_shards(dest, manifest)
        return manifest
    if manifest is not None or (tar_names(dest) and not (dest / UNFINISHED).exists()):
        raise MixloaderError(
            f"{dest} already holds shards of another source, or written with other options: name another "
            "folder, or delete this one"
        )
    return None


def _write_parts(
    source: Source, unfinished: Unfinished, options: ShardOptions, progress: Callable[[int, int], None]
) -> tuple[list[Part], int]:
    parts: list[Part] = []
    resumed = 0
    with ThreadPoolExecutor(options.workers) as pool:
        for number, start in enumerate(range(0, len(source), options.shard_size)):
            name = f"shard-{number:06d}"
            ids = range(start, min(start + options.shard_size, len(source)))
            part = unfinished.part(name)
            if part is None:
                part = _write_part(f"{name}.tar", unfinished, _encoded(source, ids, options, pool, progress))
                unfinished.finish(name, part)
            else:
                resumed += len(ids)
                progress(ids.stop, len(source))
            parts.append(part)
    return parts, resumed


def _encoded(
    source: Source,
    ids: range,
    options: ShardOptions,
    pool: ThreadPoolExecutor,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[str, int, Encoded] | Skipped]:
    """Key, label and encoding of the images `ids`, in order, or why one is left out."""

    def one(i: int) -> tuple[str, int, Encoded] | Skipped:
        try:
            item = source[i]
            image = encode(item, options.max_size, options.quality, options.levels, recode=options.recode)
            return key_with_levels(item.key) if options.levels else item.key, item.label, image
        except UnreadableImageError as error:
            return Skipped(error.name, error.reason)

    waiting: deque[Future[tuple[str, int, Encoded] | Skipped]] = deque()
    todo = iter(ids)
    try:
        for done in ids:
            for i in todo:
                waiting.append(pool.submit(one, i))
                if len(waiting) >= options.workers * _WAITING_PER_WORKER:
                    break
            yield waiting.popleft().result()
            progress(done + 1, len(source))
    finally:
        for future in waiting:
            future.cancel()


def _write_part(name: str, unfinished: Unfinished, images: Iterator[tuple[str, int, Encoded] | Skipped]) -> Part:
    """Writes one shard under a temporary name and puts it in its place."""
    temporary = unfinished.folder / f"{name}.part"
    skipped: list[Skipped] = []
    try:
        with temporary.open("wb") as file:
            tar = ShardTar(file)
            for image in images:
                if isinstance(image, Skipped):
                    skipped.append(image)
                else:
                    tar.add(*image)
            size, sha256 = tar.close()
            file.flush()
            os.fsync(file.fileno())
        rows = make_rows({**tar.columns, "shard": [0] * len(tar.columns["key"])})
        shard = Shard(name, size, len(rows), sha256) if len(rows) else None
        if shard is not None:
            temporary.replace(unfinished.dest / name)
    finally:
        temporary.unlink(missing_ok=True)
    return Part(shard, rows, tuple(skipped))


def _joined(
    classes: tuple[str, ...], parts: list[Part], made_from: str, options: ShardOptions
) -> tuple[Manifest, Rows]:
    skipped = tuple(skipped for part in parts for skipped in part.skipped)
    kept = [part for part in parts if part.shard is not None]
    if not kept:
        raise MixloaderError(
            f"none of the {len(skipped)} images could be read, the first is {printable(skipped[0].source)} "
            f"({skipped[0].reason}): check the source"
        )
    shards = tuple(part.shard for part in kept if part.shard is not None)
    rows = _joined_rows([part.rows for part in kept])
    return Manifest(classes, shards, None, made_from, options.recorded, skipped), rows


def _joined_rows(parts: list[Rows]) -> Rows:
    """The rows of all shards: keys as long, and as many levels, as the longest and most of any."""
    key_bytes = max(int(part.dtype["key"].itemsize) for part in parts)
    rows = np.zeros(sum(map(len, parts)), row_dtype(key_bytes, max(row_levels(part.dtype) for part in parts)))
    start = 0
    for number, part in enumerate(parts):
        here = rows[start : start + len(part)]
        for column in part.dtype.names or ():
            if column == "levels":
                here[column][:, : row_levels(part.dtype)] = part[column]
            else:
                here[column] = number if column == "shard" else part[column]
        start += len(part)
    return rows
