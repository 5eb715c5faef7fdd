"""The memory maps of a folder's shards, a bounded number of them open."""

from __future__ import annotations

import mmap
from pathlib import Path

from mixloader.errors import ShardError
from mixloader.shards.index import Shard

MOST_OPEN = 256
"""Every map holds a file descriptor, and a process commonly may have 1024."""


class ShardMaps:
    """Maps shards on first use and lets go of the one used longest ago. Reads are thread-safe.

    A view into a map that was let go keeps it alive. There is no lock, which a forked worker could inherit held:
    each step on the dict is atomic, and two threads that want one shard at once only map it twice.
    """

    def __init__(self, folder: Path, shards: tuple[Shard, ...]) -> None:
        """Opens nothing yet."""
        self._folder = folder
        self._shards = shards
        self._open: dict[int, memoryview] = {}  # oldest use first

    def view(self, shard: int) -> memoryview:
        """The bytes of shard number `shard`, read-only. ShardError when it is missing or has another size."""
        view = self._open.pop(shard, None)
        if view is None:
            view = self._map(self._shards[shard])
        self._open[shard] = view  # now the newest
        if len(self._open) > MOST_OPEN:
            for oldest in list(self._open)[:-MOST_OPEN]:
                self._open.pop(oldest, None)
        return view

    def close(self) -> None:
        """Let go of all of them. What is viewed next is mapped again."""
        self._open.clear()

    def _map(self, shard: Shard) -> memoryview:
        path = self._folder / shard.name
        try:
            with path.open("rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise ShardError(f"{path} cannot be mapped ({error}): check that it is there and readable") from None
        if len(view) != shard.bytes:
            raise ShardError(
                f"{path} has {len(view)} bytes, {shard.bytes} when it was indexed: it is truncated or was "
                "replaced, open the set again"
            )
        return view
