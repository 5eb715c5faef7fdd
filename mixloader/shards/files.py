"""The files of a folder's shards, a bounded number of them open, read at an offset."""

from __future__ import annotations

import os
from pathlib import Path

from mixloader.errors import ShardError
from mixloader.shards.index import Shard

MOST_OPEN = 256
"""Every file holds a descriptor, and a process commonly may have 1024."""

_Stamp = tuple[int, int]
"""Size in bytes and time of the last change: another one says that other bytes are there."""


class _Opened:
    """An open file, until nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        # A pipe of that name would keep who opens it waiting, but for the last flag.
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.stamp = self.stamp_now()

    def stamp_now(self) -> _Stamp:
        stat = os.fstat(self.descriptor)
        return stat.st_size, stat.st_mtime_ns

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class ShardFiles:
    """Opens shards on first use and lets go of the one used longest ago. Reads are thread-safe.

    They are read, not mapped: a shard that is cut off while it is mapped ends the process without a word. A file that
    was let go stays open for who still reads it. There is no lock, which a forked worker could inherit held: each step
    on the dict is atomic, and two threads that want one shard at once only open it twice.
    """

    def __init__(self, folder: Path, shards: tuple[Shard, ...]) -> None:
        """Opens nothing yet."""
        self._folder = folder
        self._shards = shards
        self._open: dict[int, _Opened] = {}  # oldest use first

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """`size` bytes of shard number `shard` from `offset` on.

        Raises:
            ShardError: it is missing, cannot be read, has another size than it should, or keeps changing.
        """
        for _ in range(2):  # one that changed is looked at anew: it may have been copied there again
            opened = self._find(shard)
            data, stamp = self._pread(opened, shard, offset, size)
            if stamp == opened.stamp and len(data) == size:
                return data
            self._open.pop(shard, None)
        raise self._problem(shard, f"changes while it is read at offset {offset}: {_REMEDY}")

    def _pread(self, opened: _Opened, shard: int, offset: int, size: int) -> tuple[bytes, _Stamp]:
        try:
            data = os.pread(opened.descriptor, size, offset)
            while len(data) < size and (more := os.pread(opened.descriptor, size - len(data), offset + len(data))):
                data += more  # the kernel may give less than it has
            return data, opened.stamp_now()
        except OSError as error:
            raise self._problem(shard, f"cannot be read at offset {offset} ({error}): check the storage") from None

    def close(self) -> None:
        """Let go of all of them. What is read next is opened again."""
        self._open.clear()

    def _find(self, shard: int) -> _Opened:
        opened = self._open.pop(shard, None)
        if opened is None:
            opened = self._open_file(shard)
        self._open[shard] = opened  # now the newest
        if len(self._open) > MOST_OPEN:
            for oldest in list(self._open)[:-MOST_OPEN]:
                self._open.pop(oldest, None)
        return opened

    def _open_file(self, shard: int) -> _Opened:
        try:
            opened = _Opened(self._folder / self._shards[shard].name)
        except OSError as error:
            raise self._problem(shard, f"cannot be opened ({error}): check that it is there and readable") from None
        expected = self._shards[shard].bytes
        if opened.stamp[0] != expected:
            raise self._problem(
                shard,
                f"has {opened.stamp[0]} bytes, {expected} when it was indexed: it is truncated or was replaced, "
                f"{_REMEDY}",
            )
        return opened

    def _problem(self, shard: int, what: str) -> ShardError:
        return ShardError(f"{self._folder / self._shards[shard].name} {what}")


_REMEDY = "put the old one back, or open the set again"
