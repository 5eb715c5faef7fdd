"""Order: ids by chance and by value, for hundreds of millions of them.

Numpy sorts whole numbers several times faster than it finds the order of some (`argsort`). So what is sorted here are
keys of 64 bits with a number in their low bits, which is read back afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

LARGEST_SET = 2**32 - 1
"""The most samples that a run can have: ids are kept in 32 bits."""

Ids = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]

CHUNK = 1 << 18
"""Entries that are worked on at a time: few enough to stay in the processor's cache, and to need no memory."""

_UPPER = 1 if sys.byteorder == "little" else 0

_FACTORS = (0x7FEB352D, 0x846CA68B)

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class Shuffle:
    """A random one-to-one map of the numbers of 32 bits: it puts ids into a random order, and can be undone.

    So a sort by it needs no list of who comes where. Each round adds a key and mixes all bits (lowbias32, C. Wellons).

    Attributes:
        keys: one of 32 bits a round; three rounds pass for chance.
    """

    keys: tuple[int, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Shuffle:
        """Another one every time."""
        return cls(tuple(rng.integers(0, 2**32, 3).tolist()))

    def mix(self, ids: Ids) -> None:
        """Put each number's image in its place."""
        for key in self.keys:
            ids ^= np.uint32(key)
            ids ^= ids >> np.uint32(16)
            ids *= np.uint32(_FACTORS[0])
            ids ^= ids >> np.uint32(15)
            ids *= np.uint32(_FACTORS[1])
            ids ^= ids >> np.uint32(16)

    def unmix(self, ids: Ids) -> None:
        """Undo `mix`."""
        for key in reversed(self.keys):
            ids ^= ids >> np.uint32(16)
            ids *= np.uint32(pow(_FACTORS[1], -1, 2**32))
            ids ^= ids >> np.uint32(15) ^ ids >> np.uint32(30)
            ids *= np.uint32(pow(_FACTORS[0], -1, 2**32))
            ids ^= ids >> np.uint32(16)
            ids ^= np.uint32(key)


def shuffled(rng: np.random.Generator, count: int) -> Ids:
    """The numbers from 0 to count - 1 in random order, uint32 [count]."""
    ids, shuffle = np.arange(count, dtype=np.uint32), Shuffle.draw(rng)
    for part in _parts(count):
        shuffle.mix(ids[part])
    ids.sort()
    for part in _parts(count):
        shuffle.unmix(ids[part])
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


def sorted_ids(values: npt.NDArray[np.float32], shuffle: Shuffle | None, *, falling: bool = False) -> Keys:
    """The ids by value, ties in shuffled order, or as they are numbered.

    Args:
        values: float32 [n], by id.
        shuffle: of the ids of one value.
        falling: the highest first.

    Returns:
        uint64 [n], sorted: ids in the `lower` halves; the `upper` ones are equal where the values are.
    """
    keys = np.empty(len(values), np.uint64)
    for part in _parts(len(keys)):  # at the largest sizes, memory that is touched for the first time is what costs most
        ids, heights = np.arange(part.start, part.stop, dtype=np.uint32), rising(values[part])
        if shuffle is not None:
            shuffle.mix(ids)
        upper(keys)[part], lower(keys)[part] = ~heights if falling else heights, ids
    keys.sort()
    if shuffle is not None:
        for part in _parts(len(keys)):
            ids = lower(keys)[part].copy()
            shuffle.unmix(ids)
            lower(keys)[part] = ids
    return keys


def sort_with_places(keys: Keys) -> None:
    """Sort keys by their lower halves, in place; equal ones stay as they come.

    What was the lower half is the upper one then, and the lower one is where each key was.
    """
    keys <<= np.uint64(32)
    _number(keys[None])
    keys.sort()


def upper(keys: Keys) -> npt.NDArray[np.uint32]:
    """The upper halves, a view: uint32 [n]."""
    return keys.view(np.uint32)[_UPPER::2]


def lower(keys: Keys) -> npt.NDArray[np.uint32]:
    """The lower halves, a view: uint32 [n]."""
    return keys.view(np.uint32)[1 - _UPPER :: 2]


def _number(keys: Keys) -> None:
    """Put the place within its row into the low bits of every key, which must be 0, in place."""
    for part in _parts(keys.shape[1]):
        keys[:, part] |= np.arange(part.start, part.stop, dtype=np.uint64)


def _parts(count: int) -> Iterator[slice]:
    """Count entries, a chunk at a time."""
    return (slice(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK))


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
    if values.dtype != np.float32:
        ids = shuffled(rng, len(values))
        return ids[np.argsort(values[ids], kind="stable")]
    return lower(sorted_ids(values, Shuffle.draw(rng))).copy()


def gather(values: npt.NDArray[_Value], ids: Ids) -> npt.NDArray[_Value]:
    """`values[ids]`, without a copy of all ids as 64-bit numbers on the way."""
    out = np.empty(len(ids), values.dtype)
    for part in _parts(len(ids)):
        out[part] = values[ids[part]]
    return out
