"""A member of a tar: its header, checked against what the index says of it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from mixloader.shards.tar import BLOCK, MAGIC, MOST_EXTENDED, NAME, SIZE, TYPE, name_before, number, plain_name

HEADER = BLOCK
"""Bytes of the header before a member's data."""

_FILE = b"0\x007"  # types of ordinary files
_LARGE = 1 << 33  # bytes of a member whose size may stand elsewhere
_NEAR = 16 * BLOCK  # before the header: most names that do not fit into it stand there

Before = Callable[[int], bytes]
"""Reads so many bytes that end where the header begins, or fewer where the tar begins there."""


def member_problem(header: bytes, key: bytes, size: int, extensions: Collection[str], before: Before) -> str | None:
    """What tells that a tar header is not that of a sample's member, in words; None when nothing does.

    An index that lies about an offset would otherwise give one sample another one's picture.

    Args:
        header: the 512 bytes before the member's data.
        key: of the sample, UTF-8.
        size: of the member's data, bytes.
        extensions: that the member may have, in lower case.
        before: called where the name need not be the one in the header.
    """
    magic = header[MAGIC]
    if len(header) < HEADER or header[TYPE] not in _FILE or (magic[:5] != b"ustar" and any(magic)):
        return "there is no tar header of a file before it"
    found = number(header[SIZE])
    if found != size and size < _LARGE:
        return f"the tar header before it says {found} bytes, the index {size}"
    name = plain_name(header)
    # Where a longer name, or one that is not ASCII, stands before the header, it holds the first 100 bytes, or "?".
    if header[NAME.stop - 1] == 0 and b"?" not in name and _is_part(name, key, extensions):
        return None
    name = name_before(before(_NEAR)) or name_before(before(MOST_EXTENDED + _NEAR)) or name
    if _is_part(name, key, extensions):
        return None
    return f"the tar header before it is that of {name.decode(errors='replace')[:200]!r}"


def _is_part(name: bytes, key: bytes, extensions: Collection[str]) -> bool:
    start = key + b"."
    return name.startswith(start) and name[len(start) :].lower().decode(errors="replace") in extensions
