"""A member of a tar: its header, checked against what the index says of it."""

from __future__ import annotations

from collections.abc import Collection

HEADER = 512
"""Bytes of the header before a member's data."""

_NAME, _SIZE, _TYPE, _MAGIC, _PREFIX = slice(0, 100), slice(124, 136), 156, slice(257, 263), slice(345, 500)
_FILE = b"0\x007"  # types of ordinary files
_LARGE = 1 << 33  # bytes of a member whose size may stand elsewhere


def member_problem(header: bytes, key: bytes, size: int, extensions: Collection[str]) -> str | None:
    """What tells that a tar header is not that of a sample's member, in words; None when nothing does.

    An index that lies about an offset would otherwise give one sample another one's picture.

    Args:
        header: the 512 bytes before the member's data.
        key: of the sample, UTF-8.
        size: of the member's data, bytes.
        extensions: that the member may have, in lower case.
    """
    if len(header) < HEADER or header[_TYPE] not in _FILE:
        return "there is no tar header of a file before it"
    found = _number(header[_SIZE])
    if found != size and size < _LARGE:
        return f"the tar header before it says {found} bytes, the index {size}"
    name = header[_NAME].split(b"\0", 1)[0]
    if len(name) == _NAME.stop or _stands_elsewhere(key):
        return None
    if header[_MAGIC] == b"ustar\0" and header[_PREFIX.start]:
        name = header[_PREFIX].split(b"\0", 1)[0] + b"/" + name
    start = key + b"."
    if name.startswith(start) and name[len(start) :].lower().decode(errors="replace") in extensions:
        return None
    return f"the tar header before it is that of {name.decode(errors='replace')!r}"


def _stands_elsewhere(key: bytes) -> bool:
    """Whether the name may be in a header of its own, before this one: text that is not ASCII may."""
    try:
        return not key.decode().isascii()
    except UnicodeDecodeError:
        return False


def _number(field: bytes) -> int | None:
    """The number in a header's field: octal digits, or binary where the first bit is set; None where there is none."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        return None
