"""One shard as a tar file that holds the same bytes whenever and wherever it is written."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import IO, Any

from mixloader.shards.levels import EXTENSIONS
from mixloader.tools.sharding.encode import Encoded


class _HashedFile:
    """What tarfile needs of a file, with the digest of all that was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.bytes


class ShardTar:
    """Writes samples in WebDataset's layout, `key.jpg`, its levels, `key.cls`, to a file opened for writing.

    Attributes:
        columns: one list per column of the index but `shard`; offsets and sizes in bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Starts at the file's beginning; the file stays the caller's to close."""
        self._file = _HashedFile(file)
        # ustar: every header is one block, and nothing in it depends on the clock or the user.
        self._tar = tarfile.TarFile(
            fileobj=self._file,  # type: ignore[arg-type]
            mode="w",
            format=tarfile.USTAR_FORMAT,
            encoding="utf-8",
        )
        names = ("offset", "size", "label", "width", "height", "key", "levels")
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, key: str, label: int, image: Encoded) -> None:
        """Appends one sample. OSError when the disk is full."""
        offset = self._add(f"{key}.{image.extension}", image.data)
        levels = [
            (self._add(f"{key}.{extension}", data), len(data))
            for extension, data in zip(EXTENSIONS, image.levels, strict=False)
        ]
        self._add(f"{key}.cls", str(label).encode())
        row = (offset, len(image.data), label, image.width, image.height, key.encode(), levels)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(value)

    def _add(self, name: str, data: bytes) -> int:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(data))
        return offset

    def close(self) -> tuple[int, str]:
        """Ends the archive. Returns its length in bytes and its SHA-256, hexadecimal."""
        self._tar.close()
        return self._file.bytes, self._file.digest.hexdigest()
