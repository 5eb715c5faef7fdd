"""Dealing groups of samples to training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

PARTS = {"train": 0.60, "validation": 0.15, "test": 0.25}
"""The splits, and the part of the samples that each should get."""


def deal_groups(sizes: Mapping[str, int], seed: int = 0) -> dict[str, str]:
    """The split of each group, such that every split gets about its part of the samples, and one group at least.

    The groups are dealt by size, largest first, each to the split that lacks most. Who comes first among
    equals depends on the seed and the names alone.

    Args:
        sizes: number of samples of each group, by its name; three groups or more.
        seed: of the order among equals.

    Raises:
        ValueError: there are fewer groups than splits.
    """
    if len(sizes) < len(PARTS):
        raise ValueError(f"{len(sizes)} groups cannot be dealt to {len(PARTS)} splits")
    total = sum(sizes.values())
    lacking = {split: part * total for split, part in PARTS.items()}
    empty = list(PARTS)
    dealt: dict[str, str] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], _lot(name, seed), name)):
        left = len(sizes) - len(dealt)
        split = max(empty if left <= len(empty) else PARTS, key=lambda split: lacking[split])
        lacking[split] -= sizes[name]
        if split in empty:
            empty.remove(split)
        dealt[name] = split
    return dealt


def _lot(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
