"""Blocks: the rows of consecutive batches, made when they are wanted, from what was decided for the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixloader.order import Ids
from mixloader.plan import Plan
from mixloader.planning.chance import Chances, epoch_rng
from mixloader.planning.deal import Deal
from mixloader.planning.layout import cut_canvases
from mixloader.planning.seating import lay_table
from mixloader.planning.windows import Augment, draw_windows
from mixloader.policies.policy import LARGEST_COMPOSITE, Allocation, Run

BLOCK = 1 << 15
"""About as many samples as a block's batches take: enough to be quick, few enough to be made while others wait."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Decided:
    """All that the rows of an epoch follow from, of the size of the set; a block reads its own part of it.

    Attributes:
        allocation: who gets what.
        run: the fixed facts of the run.
        deal: who is drawn in which batch.
        canvases: canvases of a batch.
        sizes: int32 [N, 2], width and height of every upright image, pixels; 0 where unknown.
        label: int64 [N], the samples' classes, for pairing by class; None where nobody asks for them.
        augment: crop and flip; None shows the largest centred window.
        seed: the run's.
        epoch: counted from 0.
    """

    allocation: Allocation
    run: Run
    deal: Deal
    canvases: int
    sizes: npt.NDArray[np.int32]
    label: npt.NDArray[np.int64] | None
    augment: Augment | None
    seed: int
    epoch: int

    @property
    def batches_per_block(self) -> int:
        """The same for everyone who draws this run: chance belongs to a block."""
        return max(1, BLOCK // self.run.batch_size)

    def canvases_of(self, ranks: int) -> int:
        """How many canvases each of so many ranks draws of a batch: some have an empty one where it does not divide."""
        return -(-self.canvases // ranks)

    def weight_of(self, b: int) -> float:
        """The sum of the weights of batch b, of all ranks together."""
        dealt = self.deal.sample[self.deal.start[b] : self.deal.start[b + 1]]
        return float(self.allocation.weight[dealt].sum(dtype=np.float64))


class _Seats(NamedTuple):
    """Where samples of a block sit; by batch, canvas and slot."""

    row: Ints  # its place among all the block's, also where only some are asked for
    sample: Ints
    canvas: Ints
    slot: Ints
    together: Ints


def draw_block(decided: Decided, block: int, rank: int, ranks: int) -> Plan:
    """The rows of a block, or a rank's part of them; its canvases are counted from 0.

    Every rank draws the chance of the whole block, so that the rows do not depend on how many share the work.
    """
    run, allocation = decided.run, decided.allocation
    rng = epoch_rng(decided.seed, decided.epoch, 2, block)
    first = block * decided.batches_per_block
    last = min(first + decided.batches_per_block, run.steps)
    seats = _take_seats(rng, decided, (first, last), rank, ranks)
    rows = int(decided.deal.start[last] - decided.deal.start[first])
    for_cuts, for_windows = rng.random((2, rows, 5))[:, seats.row]
    region, opacity = _draw_regions(for_cuts, seats, allocation, run.stride)
    sizes = decided.sizes[seats.sample]
    window, flip = draw_windows(for_windows, sizes, region, run.image_size, allocation.view, decided.augment)
    return Plan(
        image_size=run.image_size,
        canvas_size=allocation.canvas_size,
        batches=last - first,
        canvases_per_batch=decided.canvases_of(ranks),
        canvas=seats.canvas,
        slot=seats.slot.astype(np.int8),
        sample=seats.sample,
        region=region,
        window=window,
        flip=flip,
        weight=allocation.weight[seats.sample].astype(np.float32),
        opacity=opacity,
    )


def _take_seats(rng: np.random.Generator, decided: Decided, batches: tuple[int, int], rank: int, ranks: int) -> _Seats:
    """Seat the samples of the batches from the first to before the second; a rank's part of them is returned."""
    deal, pairing = decided.deal, decided.allocation.pairing
    first, last = batches
    start, small = deal.start[first : last + 1], deal.small[first:last]
    dealt = deal.sample[start[0] : start[-1]]
    group = _shuffled_classes(rng, decided.label, dealt) if pairing == "classes" else None
    begin, size = start[:-1] - start[0], np.diff(start)
    found = [_Seats(*np.zeros((5, 0), np.int64))]
    for count, few in np.unique(np.stack((size, small), axis=1), axis=0).tolist():
        table = lay_table(count, few, decided.canvases)
        alike = np.flatnonzero((size == count) & (small == few))
        row = begin[alike, None] + np.arange(count)
        whose = table.invite(rng, len(alike), pairing, None if group is None else group[row])
        mine = table.part(rank, ranks)
        canvas = alike[:, None] * decided.canvases_of(ranks) + table.canvas[mine] // ranks
        sample = dealt[begin[alike, None] + whose[:, mine]].astype(np.int64)
        slot, together = (np.broadcast_to(column[mine], canvas.shape) for column in (table.slot, table.together))
        found.append(_Seats(*(column.ravel() for column in (row[:, mine], sample, canvas, slot, together))))
    seats = _Seats(*map(np.concatenate, zip(*found, strict=True)))
    order = np.argsort(seats.row, kind="stable")  # nearly in order: the tables are few
    return _Seats(*(column[order] for column in seats))


def _shuffled_classes(rng: np.random.Generator, label: npt.NDArray[np.int64] | None, sample: Ids) -> Ints | None:
    """The samples' classes, counted in random order, so that no two classes always sit together."""
    if label is None:
        return None
    known, number = np.unique(label[sample], return_inverse=True)
    classes: Ints = rng.permutation(len(known))[number]
    return classes


def _draw_regions(
    chance: Chances, seats: _Seats, allocation: Allocation, stride: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    """Region int16 [M, 4] and opacity float32 [M] of every row."""
    cells = allocation.canvas_size // stride
    share = allocation.share[seats.sample].astype(np.float64)
    region = np.empty((len(share), 4), np.int16)
    opacity = np.ones(len(share), np.float32)
    for k in range(1, LARGEST_COMPOSITE + 1):
        rows = np.flatnonzero(seats.together == k)
        shares = share[rows].reshape(-1, k)
        if allocation.mixing == "blend":
            region[rows] = (0, 0, allocation.canvas_size, allocation.canvas_size)
            opacity[rows] = (shares / shares.sum(axis=1, keepdims=True)).ravel()
        else:
            region[rows] = cut_canvases(chance[rows[::k]], shares, cells).reshape(-1, 4) * stride
    return region, opacity
