"""The set of samples in a folder of tar shards, each reachable by its id."""

from __future__ import annotations

import operator
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixloader.errors import ShardError
from mixloader.shards.catalog import Catalog, open_catalog
from mixloader.shards.files import ShardFiles
from mixloader.shards.header import HEADER_BYTES, size_in, upright_size
from mixloader.shards.index import UNMEASURED, Rows, fingerprint, read_rows, row_levels, row_problem
from mixloader.shards.levels import EXTENSIONS
from mixloader.shards.member import HEADER, member_problem
from mixloader.shards.scan import IMAGES

_MEASURED_AT_ONCE = 512
_MEASURING_THREADS = 8
_SCAN_AGAIN = "delete index.npy and manifest.json, and the shards are scanned again"


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image.

    Attributes:
        data: the encoded image, read-only.
        label: the class, an index into the set's `classes`.
        key: the WebDataset key.
        width: of the upright image, pixels; 0 when its header cannot be read.
        height: of the upright image, pixels; 0 when its header cannot be read.
    """

    data: memoryview
    label: int
    key: str
    width: int
    height: int


class ShardSet:
    """The samples in a folder of WebDataset tar shards.

    Shards of `mixloader shard` open by their index, at once for any number of samples. Others are scanned
    once: one image a sample, its label an integer in `.cls`, or `label_key` of its `.json`; the scan is
    kept beside them, or in the user's cache directory. Class names come from a `classes.txt` or
    `manifest.json` there, else they are the numbers. Safe to read from several threads, and to pickle into
    worker processes.

    Args:
        path: the folder.
        label_key: the field of the samples' `.json` that holds the label, an integer or a string.

    Raises:
        ShardError: the folder or a shard is missing, empty, truncated, compressed or damaged, or a sample
        is unusable.
    """

    path: Path
    """The folder of the shards."""

    def __init__(self, path: str | os.PathLike[str], *, label_key: str | None = None) -> None:
        """Opens the index, or scans the shards."""
        self.path = Path(path)
        self._use(open_catalog(self.path, label_key))

    def _use(self, catalog: Catalog) -> None:
        self._manifest, self._home = catalog.manifest, catalog.home
        self._read: Rows | None = catalog.rows
        self._files = ShardFiles(self.path, catalog.manifest.shards)

    @property
    def _rows(self) -> Rows:
        """The index; it is opened again after `close`."""
        rows = self._read
        if rows is None:
            assert self._home is not None  # `close` leaves alone what no file holds
            rows = self._read = read_rows(self._home, self._manifest)
        return rows

    def close(self) -> None:
        """Let go of the files: shards, and the index. They are opened again when something of them is asked for."""
        self._files.close()
        if self._home is not None:
            self._read = None

    def __len__(self) -> int:
        """How many samples the set has."""
        return len(self._rows)

    def __getitem__(self, i: int) -> Sample:
        """Sample number `i`, counted from the end when negative.

        Raises:
            IndexError: there is no such sample.
            ShardError: its shard is gone or changed, or the index is damaged or lies.
        """
        row = self._row(i)
        _, _, _, label, width, height, key, *_ = _fields(row)
        data = self._read_member(i, row)
        if width == UNMEASURED:
            width, height = upright_size(data)
        return Sample(data, label, key.decode(errors="replace"), width, height)

    def _row(self, i: int) -> np.void:
        number = operator.index(i)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} is not among the {len(self)} samples of {self.path}")
        row: np.void = self._rows[number]
        problem = row_problem(row, self._manifest)
        if problem:
            raise ShardError(
                f"the index of {self.path} says {problem} for sample {number}: delete "
                f"{self._home or self.path}/index.npy, and the shards are scanned again"
            )
        return row

    def where(self, i: int) -> str:
        """Where sample number `i` lies, for an error message: its shard, key and offset in bytes."""
        shard, offset, _, _, _, _, key, *_ = _fields(self._row(i))
        return f"{self._manifest.shards[shard].name}: member {key.decode(errors='replace')!r} at offset {offset}"

    @property
    def levels(self) -> int:
        """How many levels, that is smaller versions beside the images, the index knows: 0 to 3; 1 is halves only."""
        return row_levels(self._rows.dtype)

    def stored(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        """Int8 [M], how many levels each of the samples `ids` [M] has, from the half on without a gap."""
        if not self.levels:
            return np.zeros(len(ids), np.int8)
        present = self._rows["levels"]["size"][ids] > 0
        unbroken: npt.NDArray[np.int8] = np.logical_and.accumulate(present, axis=1).sum(axis=1, dtype=np.int8)
        return unbroken

    def data(self, i: int, level: int = 0) -> memoryview:
        """The encoded bytes of one level of sample number `i`, read-only. Level 0 is the image itself.

        A level is a JPEG and upright, whatever format and EXIF orientation the image has.

        Raises:
            IndexError: there is no such sample, or it has no such level.
            ShardError: its shard is gone or changed, or the index is damaged or lies.
        """
        row = self._row(i)
        if level and not (0 < level <= self.levels and row["levels"][level - 1]["size"]):
            count = int(self.stored(np.array([i]))[0])
            raise IndexError(
                f"sample {i} of {self.path} has no level {level}, it has {count} of the set's {self.levels}: ask "
                "`stored` first, or write the shards with `mixloader shard --levels`"
            )
        return self._read_member(i, row, level)

    def _read_member(self, i: int, row: np.void, level: int = 0, most: int | None = None) -> memoryview:
        """The data of a sample's member, or the first bytes of it, once its tar header says that it is that one."""
        shard, offset, size, _, _, _, key, *_ = _fields(row)
        if level:
            offset, size = row["levels"][level - 1].item()
        count = size if most is None else min(size, most)
        found = self._files.read(shard, offset - HEADER, HEADER + count)
        problem = member_problem(found[:HEADER], key, size, (EXTENSIONS[level - 1],) if level else IMAGES)
        if problem:
            remedy = "copy the set again, or write its shards again" if self._manifest.written else _SCAN_AGAIN
            raise ShardError(
                f"{self._manifest.shards[shard].name}: sample {operator.index(i)}, {key.decode(errors='replace')!r}, "
                f"is not at offset {offset}, {problem}: the index of {self.path} is not that of these shards, {remedy}"
            )
        return memoryview(found)[HEADER:]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label i is `classes[i]`."""
        return self._manifest.classes

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Int64 [N], the class of every sample, read-only."""
        return _frozen(self._rows["label"].astype(np.int64))

    @cached_property
    def sizes(self) -> npt.NDArray[np.int32]:
        """Int32 [N, 2], width and height of every upright image in pixels, read-only; 0 x 0 where unreadable.

        For shards that were scanned, the first use reads every image header; the result is kept with the
        index.
        """
        if np.any(self._rows["width"] == UNMEASURED):
            self._measure()
        return _frozen(np.stack([self._rows["width"], self._rows["height"]], axis=1).astype(np.int32))

    def _measure(self) -> None:
        rows = self._rows.copy()
        unmeasured = np.flatnonzero(rows["width"] == UNMEASURED)

        def measure(ids: npt.NDArray[np.int64]) -> None:
            for i in ids.tolist():
                rows["width"][i], rows["height"][i] = self._measured(i)

        with ThreadPoolExecutor(_MEASURING_THREADS) as pool:
            parts = np.array_split(unmeasured, -(-len(unmeasured) // _MEASURED_AT_ONCE))
            for done in [pool.submit(measure, part) for part in parts]:
                done.result()
        self._read = rows
        Catalog(self._manifest, rows, self._home).keep()

    def _measured(self, i: int) -> tuple[int, int]:
        """Width and height of sample i: from its first bytes where those tell, so that a scan need not read a set."""
        row = self._row(i)
        size = size_in(self._read_member(i, row, most=HEADER_BYTES)) if row["size"] > HEADER_BYTES else None
        return size or upright_size(self._read_member(i, row))

    @cached_property
    def fingerprint(self) -> str:
        """A hex digest that tells this data set from another: classes, shards, a spread of the samples."""
        return fingerprint(self._manifest, self._rows)

    def __repr__(self) -> str:
        """The folder and how much it holds."""
        shards = len(self._manifest.shards)
        return f"ShardSet({str(self.path)!r}: {len(self)} samples, {len(self.classes)} classes, {shards} shards)"

    def __getstate__(self) -> dict[str, Any]:
        """Open files stay behind, and rows too where a file holds them: a worker opens both again."""
        return {
            "path": self.path,
            "manifest": self._manifest,
            "rows": self._rows if self._home is None else None,
            "home": self._home,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the index again where it is kept. ShardError when it is gone or damaged."""
        self.path = state["path"]
        manifest, home, rows = state["manifest"], state["home"], state["rows"]
        self._use(Catalog(manifest, read_rows(home, manifest) if rows is None else rows, home))


def _fields(row: np.void) -> tuple[Any, ...]:
    fields: Any = row.item()
    return tuple(fields)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array
