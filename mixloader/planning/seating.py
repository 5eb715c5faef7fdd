"""Seating: who of a batch shares a canvas with whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mixloader.policies.policy import Pairing

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """The seats of a batch of n samples, by canvas and slot.

    Attributes:
        canvas: int64 [n], within the batch.
        slot: int64 [n]
        together: int64 [n], the number of samples on the same canvas.
        by_share: int64 [n], whose seat it is, counted from the largest share of the batch: as `opposite` has it.
    """

    canvas: Ints
    slot: Ints
    together: Ints
    by_share: Ints

    def part(self, rank: int, ranks: int) -> Ints:
        """Which seats a rank draws, int64: every `ranks`-th canvas, so that all ranks have about as many samples."""
        return np.flatnonzero(self.canvas % ranks == rank)

    def invite(self, rng: np.random.Generator, rows: int, pairing: Pairing, group: Ints | None) -> Ints:
        """Whose each seat is, in `rows` batches: int64 [rows, n], ranks.

        Those who sit together come in the order of their shares.

        Args:
            rng: the chance.
            rows: number of batches.
            pairing: who sits with whom; see `Allocation`.
            group: int64 [rows, n], the class of every rank; only read with `classes`.
        """
        count = len(self.by_share)
        if pairing == "opposite" or not (self.together > 1).any():
            return np.broadcast_to(self.by_share, (rows, count))
        # Within the alone, the pairs and the fours, whom chance, or class and then chance, puts next takes the next
        # seat: first every canvas's first seat, then its second, so that one class is spread over the canvases.
        bits = count.bit_length()
        company = np.empty(count, np.uint64)
        company[self.by_share] = np.minimum(self.together, 3)  # a canvas of three is one of the fours
        if pairing == "classes" and group is not None:
            order = np.lexsort((rng.random((rows, count)), group, np.broadcast_to(company, (rows, count))))
        else:
            tickets = rng.integers(0, 2 ** (62 - bits), (rows, count), np.uint64) << np.uint64(bits)
            tickets |= company << np.uint64(62) | np.arange(count, dtype=np.uint64)
            tickets.sort(axis=1)
            order = (tickets & np.uint64((1 << bits) - 1)).astype(np.int64)
        seats = np.lexsort((self.canvas, self.slot, np.minimum(self.together, 3)))
        taken = np.empty((rows, count), np.int64)
        taken[:, seats] = order
        taken += self.canvas * count
        taken.sort(axis=1)
        return taken % count


@lru_cache(maxsize=64)
def lay_table(size: int, small: int, canvases: int) -> Table:
    """Seats for a batch of `size` samples, the last `small` of them with small shares, on exactly `canvases` canvases.

    The largest shares sit alone, the next ones in pairs, the smallest in fours: as many fours as ask for it, and
    then as many pairs as fill the canvases. Of those who share, the largest sits with the smallest.
    """
    alone, pairs, fours = _compose(size, small, canvases)
    rank = np.arange(size)
    company = (rank >= alone).astype(np.int64) + (rank >= alone + 2 * pairs)  # 0 alone, 1 in pairs, 2 in fours
    begin = np.array([0, alone, alone + 2 * pairs])[company]
    groups = np.array([alone, pairs, fours])[company]
    row, place = np.divmod(rank - begin, groups)
    place = np.where(row % 2, groups - 1 - place, place)
    canvas = np.array([0, alone, alone + pairs])[company] + place
    by_canvas = np.argsort(canvas, kind="stable")
    canvas = canvas[by_canvas]
    together = np.bincount(canvas, minlength=canvases)
    slot = np.arange(size) - (np.cumsum(together) - together)[canvas]
    return Table(canvas, slot, together[canvas], by_canvas)


def _compose(size: int, small: int, canvases: int) -> tuple[int, int, int]:
    """How many canvases of a batch hold one, two and up to four samples; they add up to `canvases`.

    With a alone, p pairs and q fours: a + p + q = canvases and a + 2p + 4q = size; q is as near to small / 4 as
    these leave it. Where no whole numbers do, there are no pairs and some of the fours are threes.
    """
    if size <= canvases:
        return size, 0, 0
    fewest = max(0, -(-(size - 2 * canvases) // 2))
    most = max(fewest, (size - canvases) // 3)
    fours = min(max((small + 2) // 4, fewest), most)
    pairs = max(0, size - canvases - 3 * fours)
    return canvases - pairs - fours, pairs, fours
