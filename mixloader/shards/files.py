"""The files of a folder's shards, a bounded number of them open, read at an offset."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

from mixloader.errors import ShardError
from mixloader.shards.index import Shard
from mixloader.shards.ordinary import open_ordinary

MOST_OPEN = 256
"""Every file holds a descriptor, and a process commonly may have 1024."""

_REMEDY = "put the old one back, or open the set again"

_Stamp = tuple[int, int]
"""Size in bytes and time of the last change: another one says that other bytes are there."""

_Place = tuple[int, int, bytes]
"""What is read, for messages: number of the shard, offset in bytes, key of the sample."""


@dataclass(frozen=True, slots=True)
class _Opened:
    file: io.FileIO = field(repr=False)
    stamp: _Stamp


class ShardFiles:
    """Opens shards on first use and lets go of the one used longest ago. Reads are thread-safe.

    They are read, not mapped: a shard that is cut off while it is mapped ends the process without a word. A shard that
    was changed since it was first opened, or scanned, is read no more, unless its checksum says that it is the same.

    A file that was let go stays open for who still reads it. There is no lock, which a forked worker could inherit
    held: each step on a dict is atomic, and two threads that want one shard at once only open it twice.
    """

    def __init__(self, folder: Path, shards: tuple[Shard, ...]) -> None:
        """Opens nothing yet."""
        self._folder = folder
        self._shards = shards
        self._open: dict[int, _Opened] = {}  # oldest use first
        self._known: dict[int, _Stamp] = {}  # outlives the files: one that is opened again is compared too
        self._refused: dict[int, _Stamp] = {}

    def read(self, shard: int, offset: int, size: int, member: bytes) -> bytes:
        """`size` bytes of shard number `shard` from `offset` on, in the member of the sample with the key `member`.

        Raises:
            ShardError: it is missing, cannot be read, or was truncated or replaced since it was first opened.
        """
        place = (shard, offset, member)
        for _ in range(2):  # one that changed is looked at anew: it may have been copied there again
            opened = self._find(place)
            data, stamp = self._pread(opened, size, place)
            if stamp == opened.stamp and len(data) == size:
                return data
            self._open.pop(shard, None)
        raise self._problem(place, f"was truncated or replaced during the run: {_REMEDY}")

    def _pread(self, opened: _Opened, size: int, place: _Place) -> tuple[bytes, _Stamp]:
        offset = place[1]
        try:
            data = os.pread(opened.file.fileno(), size, offset)
            while len(data) < size and (more := os.pread(opened.file.fileno(), size - len(data), offset + len(data))):
                data += more  # the kernel may give less than it has
            return data, _stamp(os.fstat(opened.file.fileno()))
        except OSError as error:
            raise self._problem(place, f"cannot be read ({error}): check the storage") from None

    def close(self) -> None:
        """Let go of all of them. What is read next is opened again."""
        self._open.clear()

    def _find(self, place: _Place) -> _Opened:
        shard = place[0]
        opened = self._open.pop(shard, None)
        if opened is None:
            opened = self._open_file(place)
        self._open[shard] = opened  # now the newest
        if len(self._open) > MOST_OPEN:
            for oldest in list(self._open)[:-MOST_OPEN]:
                self._open.pop(oldest, None)
        return opened

    def _open_file(self, place: _Place) -> _Opened:
        shard = place[0]
        entry = self._shards[shard]
        try:
            file = open_ordinary(self._folder / entry.name)
            stamp = _stamp(os.fstat(file.fileno()))
            if stamp[0] != entry.bytes:
                sizes = f"has {stamp[0]} bytes, {entry.bytes} when it was indexed"
                raise self._problem(place, f"{sizes}: it was truncated or replaced, {_REMEDY}")
            known = self._known.setdefault(shard, stamp if entry.mtime_ns is None else (entry.bytes, entry.mtime_ns))
            if stamp != known and not self._is_same(shard, file, stamp):
                raise self._problem(place, f"was written to or replaced during the run: {_REMEDY}")
        except OSError as error:
            raise self._problem(place, f"cannot be opened ({error}): check that it is there and readable") from None
        return _Opened(file, stamp)

    def _is_same(self, shard: int, file: io.FileIO, stamp: _Stamp) -> bool:
        """Whether a shard that was touched or copied again holds the bytes that it was written with."""
        checksum = self._shards[shard].sha256
        if checksum is None or self._refused.get(shard) == stamp:
            return False
        if hashlib.file_digest(file, "sha256").hexdigest() != checksum or _stamp(os.fstat(file.fileno())) != stamp:
            self._refused[shard] = stamp  # it is not read whole again for every sample
            return False
        self._known[shard] = stamp
        return True

    def _problem(self, place: _Place, what: str) -> ShardError:
        shard, offset, member = place
        name = member.decode(errors="replace")[:200]
        return ShardError(f"{self._folder / self._shards[shard].name} {what} (member {name!r}, header at {offset})")


def _stamp(stat: os.stat_result) -> _Stamp:
    return stat.st_size, stat.st_mtime_ns
