"""The keys that samples get in the shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from mixloader.shards.levels import EXTENSIONS

MOST_BYTES = 90
"""With the longest extension a name then still fits the 100 bytes that a plain tar header has for it."""

MOST_BYTES_WITH_LEVELS = 100 - max(len(f".{extension}") for extension in EXTENSIONS)
"""The same where levels, whose extensions are longer, lie beside the image."""


def path_keys(paths: Iterable[str]) -> list[str]:
    """One unique key per relative path, in order: the path without its extension, other dots replaced.

    WebDataset ends the key at the first dot of the file name. Paths that come out alike, and too long
    ones, get a digest of the whole path.
    """
    keys: list[str] = []
    seen: set[str] = set()
    for path in paths:
        key = _key(path)
        if key in seen or len(key.encode()) > MOST_BYTES:
            key = _digested(key, path, MOST_BYTES)
        seen.add(key)
        keys.append(key)
    return keys


def _key(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem = name.rpartition(".")[0]
    # A name that is not UTF-8 comes from the file system with lone surrogates, which no tar header holds.
    return (folder + slash + stem.replace(".", "_")).encode("utf-8", "replace").decode()


def key_with_levels(key: str) -> str:
    """The key of a sample that has levels: `key`, or with a digest of it at its end where it would be too long."""
    return _digested(key, key, MOST_BYTES_WITH_LEVELS) if len(key.encode()) > MOST_BYTES_WITH_LEVELS else key


def _digested(key: str, path: str, most_bytes: int) -> str:
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    kept = key.encode()[: most_bytes - len(digest) - 1].decode("utf-8", "ignore")
    return f"{kept}-{digest}"
