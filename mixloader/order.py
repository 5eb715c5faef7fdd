"""Order: ids by chance and by value, for hundreds of millions of them.

Numpy sorts whole numbers several times faster than it finds the order of some (`argsort`). So what is sorted here are
keys of 64 bits with a number in their low bits, which is read back afterwards.
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

LARGEST_SET = 2**32 - 1
"""The most samples that a run can have: ids are kept in 32 bits."""

Ids = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]

CHUNK = 1 << 18
"""Entries that are worked on at a time: few enough to stay in the processor's cache, and to need no memory."""

_HIGH = 1 if sys.byteorder == "little" else 0
"""Which half of a key its high bits are."""

_Value = TypeVar("_Value", bound=np.generic)


def shuffled(rng: np.random.Generator, count: int) -> Ids:
    """The numbers from 0 to count - 1 in random order, uint32 [count]."""
    ids: Ids = shuffled_rows(rng, 1, count)[0].astype(np.uint32)
    return ids


def shuffled_rows(rng: np.random.Generator, rows: int, count: int) -> Keys:
    """Uint64 [rows, count]: in each row the numbers from 0 to count - 1, in an order of its own."""
    keys = rng.integers(0, 2**64, (rows, count), np.uint64)
    bits = count.bit_length()
    keys >>= np.uint64(bits)
    keys <<= np.uint64(bits)
    _number(keys)
    keys.sort(axis=1)
    keys &= np.uint64((1 << bits) - 1)
    return keys


def sort_with_places(keys: Keys) -> tuple[Ids, Ids]:
    """Sort keys of 32 bits (uint64 [n]) in place; equal ones stay as they come.

    Returns:
        The sorted keys, and where each of them was: both uint32 [n], views of the two halves of what `keys` holds now.
    """
    keys <<= np.uint64(32)  # shifts out what is above 32 bits
    _number(keys[None])
    keys.sort()
    halves = keys.view(np.uint32).reshape(-1, 2)
    return halves[:, _HIGH], halves[:, 1 - _HIGH]


def _number(keys: Keys) -> None:
    """Put the place within its row into the low bits of every key, which must be 0, in place."""
    count = keys.shape[1]
    for first in range(0, count, CHUNK):
        keys[:, first : first + CHUNK] |= np.arange(first, min(first + CHUNK, count), dtype=np.uint64)


def rising(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Whole numbers that lie in order as the values do, uint32 [n]; NaN above all."""
    bits = (values + np.float32(0)).view(np.uint32)  # a copy, in which -0 is 0
    negative = (bits.view(np.int32) >> np.int32(31)).view(np.uint32)  # every bit set where the sign is
    bits ^= negative | np.uint32(1 << 31)
    bits[np.isnan(values)] = np.iinfo(np.uint32).max
    return bits


def ascending(values: npt.NDArray[Any], rng: np.random.Generator) -> Ids:
    """The ids from the lowest value to the highest, uint32 [N]; ties in random order, NaN last.

    Quick for float32; others are ranked exactly, too.
    """
    ids = shuffled(rng, len(values))
    if values.dtype != np.float32:
        return ids[np.argsort(values[ids], kind="stable")]
    heights = gather(rising(values), ids)
    keys = heights.astype(np.uint64)
    del values, heights  # at the largest sizes every column counts
    _, places = sort_with_places(keys)
    return gather(ids, places)


def gather(values: npt.NDArray[_Value], ids: Ids) -> npt.NDArray[_Value]:
    """`values[ids]`, without a copy of all ids as 64-bit numbers on the way."""
    out = np.empty(len(ids), values.dtype)
    for first in range(0, len(ids), CHUNK):
        out[first : first + CHUNK] = values[ids[first : first + CHUNK]]
    return out
