"""An epoch's plan, drawn a batch at a time: what passes from deciding to drawing, for any number of samples."""

from __future__ import annotations

import threading
from functools import lru_cache, partial

from mixloader.plan import Plan
from mixloader.planning.block import Decided, draw_block

_KEPT = 4  # blocks: who draws ahead has two in hand, and a second iteration may be at work elsewhere


class EpochPlan:
    """The plan of one epoch; its rows are made when a batch is asked for. Safe to use from several threads.

    A batch is the same whichever was asked for before, by whom, and in how many parts.

    Attributes:
        image_size: side of a whole canvas, pixels.
        canvas_size: side of this epoch's canvases, pixels.
        batches: number of batches.
        canvases_per_batch: canvases of each batch, of all ranks together.
        batches_per_block: rows are made for so many batches at once, and the last few blocks are kept.
        weight_of: batch number to the sum of its weights, of all ranks together.
    """

    def __init__(self, decided: Decided) -> None:
        self.image_size, self.canvas_size = decided.run.image_size, decided.allocation.canvas_size
        self.batches, self.canvases_per_batch = decided.run.steps, decided.canvases
        self.batches_per_block = decided.batches_per_block
        self.weight_of = decided.weight_of
        self._draw = partial(draw_block, decided)
        self._recent = lru_cache(_KEPT)(self._draw)
        self._lock = threading.Lock()  # held while a block is made: the others want the same one

    def batch(self, b: int, *, rank: int = 0, ranks: int = 1) -> Plan:
        """The plan of batch b alone, or of a rank's part of it, with its canvases counted from 0.

        Args:
            b: its number.
            rank: whose part: canvas number rank and every `ranks`-th after it, so that all have about as many samples.
            ranks: how many share the batch. All get as many canvases: where they do not divide, the last of some is
                empty.

        Raises:
            IndexError: there is no such batch, or rank.
        """
        if not 0 <= b < self.batches:
            raise IndexError(f"batch {b} of a plan of {self.batches} batches")
        if not 0 <= rank < ranks:
            raise IndexError(f"rank {rank} of {ranks}")
        block, place = divmod(b, self.batches_per_block)
        with self._lock:
            rows = self._recent(block, rank, ranks)
        return rows.batch(place)

    def whole(self) -> Plan:
        """All rows."""
        return Plan.join([self._draw(block, 0, 1) for block in range(-(-self.batches // self.batches_per_block))])
