"""Tar files: their members, and the name of one, read with nothing on trust.

Python's `tarfile` goes by what a header says: it reads as much as it is told to, searches in time that grows with the
square of what it finds, and calls itself for each header of a header. Here every step goes forward, a header is read
only up to a bound, and everything else that is valid means the same as there.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mixloader.errors import ShardError

BLOCK = 512
"""Bytes of a header; data is padded to as many."""

MOST_EXTENDED = 1 << 20
"""Bytes of what stands before a header to say more of its member: a name, attributes, a map of holes."""

MOST_NAME = 4096
"""Bytes of a name: no file system has longer paths. Every row of an index has room for the longest."""

NAME, SIZE, TYPE, MAGIC, PREFIX = slice(0, 100), slice(124, 136), 156, slice(257, 263), slice(345, 500)
_CHECKSUM, _LINK = slice(148, 156), slice(157, 257)
_EXTENDED = b"xXL"  # they name the member behind them
_MORE = b"gK"  # they say other things of it
_FILE = b"\x0007"
_NO_DATA = b"123456"  # links, devices, folders, pipes: whatever size is said
_ZEROS = bytes(BLOCK)
_SPARSE = b"GNU.sparse."


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a tar.

    Attributes:
        name: its whole name, as bytes.
        header: where its own header begins in the tar, bytes.
        offset: where its data begins.
        size: of its data, bytes.
        kind: "file", "sparse" (holes are left out of its data), "link", or "other".
        link: the name that a link leads to.
    """

    name: bytes
    header: int
    offset: int
    size: int
    kind: str
    link: bytes = field(repr=False)


def members(path: Path, file: io.FileIO) -> Iterator[Member]:
    """Every member of the tar `file`, which `path` names, up to its end-of-archive block.

    Raises:
        ShardError: it is no tar, cut short, or damaged.
        OSError: it cannot be read.
    """
    end, at = os.fstat(file.fileno()).st_size, 0
    said: dict[bytes, bytes] = {}  # of the next member, by the headers before its own
    while (header := _header(path, file, at)) != _ZEROS:
        try:
            size = _size(header, said)
            if header[TYPE] in _EXTENDED:
                _learn(said, header[TYPE], _extended(file, at + BLOCK, size))
            if header[TYPE] in _EXTENDED + _MORE:
                at += BLOCK + padded(size)
                continue
            member = _member(file, header, at, size, said)
        except ValueError as error:
            raise ShardError(f"{path} is damaged: the header at offset {at} {error}: copy it again") from None
        has_data = header[TYPE] not in _NO_DATA
        if has_data and member.offset + member.size > end:
            raise ShardError(
                f"{path} is cut short: member {text(member.name)[:200]!r} at offset {member.offset} has {member.size} "
                f"bytes, the file ends at {end}: copy it again"
            )
        yield member
        at, said = member.offset + (padded(member.size) if has_data else 0), {}
    if said:
        raise ShardError(f"{path} is damaged: the member is missing whose name ends at offset {at}: copy it again")


def _header(path: Path, file: io.FileIO, at: int) -> bytes:
    header = os.pread(file.fileno(), BLOCK, at) if at < 1 << 63 else b""
    if header == _ZEROS or (len(header) == BLOCK and has_checksum(header)):
        return header
    if not at:
        raise ShardError(f"{path} is not a tar file (there is no tar header at offset 0): copy or write it again")
    if len(header) < BLOCK:
        raise ShardError(f"{path} is cut short: it ends at offset {at} with no end-of-archive block: copy it again")
    raise ShardError(f"{path} is damaged: there is no tar header at offset {at}: copy it again")


def _size(header: bytes, said: dict[bytes, bytes]) -> int:
    size = number(header[SIZE])
    if b"size" in said and header[TYPE] not in _EXTENDED + _MORE:
        digits = said[b"size"]
        size = int(digits) if digits.isdigit() and len(digits) < 20 else None
    if size is None or size < 0:
        raise ValueError("says no size")
    return size


def _extended(file: io.FileIO, at: int, size: int) -> bytes:
    if size > MOST_EXTENDED:
        raise ValueError(f"is followed by {size} bytes of names and attributes, at most {MOST_EXTENDED} are read")
    data = os.pread(file.fileno(), size, at)
    if len(data) < size:
        raise ValueError("is cut short")
    return data


def _learn(said: dict[bytes, bytes], kind: int, data: bytes) -> None:
    for key, value in records(kind, data).items():
        if said.setdefault(key, value) != value:
            raise ValueError(f"says again what {text(key)!r} is")


def _member(file: io.FileIO, header: bytes, at: int, size: int, said: dict[bytes, bytes]) -> Member:
    kind, start = header[TYPE], at + BLOCK
    name = said.get(_SPARSE + b"name", said.get(b"path", plain_name(header)))
    if len(name) > MOST_NAME or b"\0" in name:
        raise ValueError(f"has a name of {len(name)} bytes, or a zero in it: names have at most {MOST_NAME}")
    if kind == ord("S"):
        more = header[482]
        while more:
            block = os.pread(file.fileno(), BLOCK, start)
            more, start = (block[504] if len(block) == BLOCK else 0), start + BLOCK
    folder = kind == 0 and plain_name(header).endswith(b"/")  # as in the oldest tars
    if kind == ord("S") or (kind in _FILE and any(key.startswith(_SPARSE) for key in said)):
        what = "sparse"
    elif kind in b"12":
        what = "link"
    else:
        what = "file" if kind in _FILE and not folder else "other"
    return Member(name, at, start, 0 if folder else size, what, _until_zero(header[_LINK]))


def padded(size: int) -> int:
    """The bytes that data of so many takes in a tar."""
    return -(-size // BLOCK) * BLOCK


def text(name: bytes) -> str:
    """A name as a key of samples: bytes that are not UTF-8 come back when it is encoded alike."""
    return name.decode(errors="surrogateescape")


def plain_name(header: bytes) -> bytes:
    """The name in a header, as far as it fits there."""
    name = _until_zero(header[NAME])
    if header[MAGIC] == b"ustar\0" and header[PREFIX.start]:
        return _until_zero(header[PREFIX]) + b"/" + name
    return name


def number(digits: bytes) -> int | None:
    """The number in a header's field: octal digits, or binary where the first bit is set; None where there is none."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    octal = _until_zero(digits).strip() or b"0"
    return int(octal, 8) if octal.isdigit() and not set(octal) & {0x38, 0x39} else None


def has_checksum(header: bytes) -> bool:
    """Whether 512 bytes hold their own checksum. Some old writers took bytes for signed."""
    told = number(header[_CHECKSUM])
    total = sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
    if told == total:
        return True
    rest = header[: _CHECKSUM.start] + header[_CHECKSUM.stop :]
    return told == total - 256 * sum(byte > 127 for byte in rest)


def records(kind: int, data: bytes) -> dict[bytes, bytes]:
    """What an extended header of type `kind` ("L", or pax's "x" and "X") says of its member: name, size, holes.

    Raises:
        ValueError: it is damaged.
    """
    if kind == ord("L"):
        return {b"path": _until_zero(data)}
    found, at = {}, 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > at else b""
        stop = at + int(length) if length.isdigit() else 0
        if not space < stop <= len(data) or data[stop - 1] != ord("\n"):
            raise ValueError(f"has a record that does not end, {at} bytes behind it")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals:
            raise ValueError(f"has a record without a value, {at} bytes behind it")
        if key in (b"path", b"size") or key.startswith(_SPARSE):
            found[key] = value.rstrip(b"/") if key == b"path" else value
        at = stop
    return found


def name_before(before: bytes) -> bytes | None:
    """The name that extended headers give a member, from the bytes before its own header; None where none does.

    Args:
        before: they end where the member's own header begins, and are a whole number of blocks.
    """
    stop = len(before)
    while (start := _extended_start(before, stop)) is not None:
        kind, size = before[start + TYPE], number(before[start : start + BLOCK][SIZE]) or 0
        try:
            said = records(kind, before[start + BLOCK : start + BLOCK + size]) if kind in _EXTENDED else {}
        except ValueError:
            return None
        if b"path" in said:
            return said[b"path"]
        stop = start
    return None


def _extended_start(before: bytes, stop: int) -> int | None:
    """Where the extended header begins whose data ends at `stop`; None where none does."""
    for start in range(stop - BLOCK, -1, -BLOCK):
        if before[start + TYPE] in _EXTENDED + _MORE:
            header = before[start : start + BLOCK]
            size = number(header[SIZE])
            if size is not None and start + BLOCK + padded(size) == stop and has_checksum(header):
                return start
    return None


def _until_zero(data: bytes) -> bytes:
    return data.split(b"\0", 1)[0]
