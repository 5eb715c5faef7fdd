"""Dealing: which samples make up each batch, and who shares a canvas with whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.policies.policy import LARGEST_COMPOSITE, Pairing, Run

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seats:
    """Where every drawn sample sits; M entries, by batch, canvas and slot.

    Attributes:
        sample: int64 [M]
        canvas: int64 [M], counted through the epoch.
        slot: int64 [M]
        together: int64 [M], the number of samples on the same canvas.
    """

    sample: Ints
    canvas: Ints
    slot: Ints
    together: Ints


def deal_batches(
    rng: np.random.Generator, share: npt.NDArray[np.float32], run: Run, *, shuffle: bool
) -> tuple[Ints, Ints]:
    """Give every batch the same mix of shares.

    Samples, sorted by share, are dealt out like cards: each round gives one to every batch, and a short last
    batch is passed over in rounds spread evenly. Equal shares keep the shuffled order, so that with one share for
    all, batch b is the next `batch_size` samples of the shuffle, as from a plain loader.

    Returns:
        sample int64 [M], batch int64 [M], M = N less a last batch that is dropped: sorted by batch; within a batch,
        largest share first.
    """
    batches = -(-run.samples // run.batch_size)
    order = rng.permutation(run.samples) if shuffle else np.arange(run.samples)
    order = order[np.argsort(-share[order], kind="stable")]
    rounds = np.tile(np.arange(batches), (run.batch_size, 1))
    sorted_share = share[order]
    if sorted_share[0] != sorted_share[-1]:
        rng.permuted(rounds, axis=1, out=rounds)
    last = run.samples - (batches - 1) * run.batch_size
    turn = np.arange(run.batch_size + 1) * last // run.batch_size
    in_play = (rounds < batches - 1) | (np.diff(turn) > 0)[:, None]
    batch = rounds[in_play]
    same_share = np.cumsum(np.diff(sorted_share, prepend=sorted_share[0]) != 0)
    batch = batch[np.lexsort((batch, same_share))]
    by_batch = np.argsort(batch, kind="stable")
    by_batch = by_batch[batch[by_batch] < run.steps]  # a last batch that is dropped took its part of every share
    return order[by_batch], batch[by_batch]


def seat(
    rng: np.random.Generator,
    dealt: tuple[Ints, Ints],
    share: npt.NDArray[np.float32],
    label: Ints,
    *,
    canvases: int,
    whole: float,
    steps: int,
    pairing: Pairing,
) -> Seats:
    """Seat each batch's samples on exactly `canvases` canvases.

    The largest shares sit alone, the next ones in pairs, the smallest in fours: as many fours as the shares ask
    for (shares below 0.3 of a canvas), and then as many pairs as fill the budget.

    Args:
        rng: the epoch's chance.
        dealt: sample int64 [N] and batch int64 [N], as `deal_batches` gives them.
        share: float32 [N], by id.
        label: int64 [N], by id.
        canvases: canvases of a batch.
        whole: the share that a canvas of this epoch is.
        steps: number of batches.
        pairing: who of those that share sits with whom; see `Allocation`.

    Raises:
        MixloaderError: a batch has more samples than its canvases can hold.
    """
    sample, batch = dealt
    drawn = share[sample] > 0
    sample, batch = sample[drawn], batch[drawn]
    size = np.bincount(batch, minlength=steps)
    if (size > LARGEST_COMPOSITE * canvases).any():
        raise MixloaderError(
            f"{int(size.max())} samples of a batch cannot be drawn on {canvases} canvases: a canvas holds "
            f"{LARGEST_COMPOSITE} at most; give larger shares, or let more samples sit out"
        )
    small = np.bincount(batch[share[sample] < 0.3 * whole], minlength=steps)
    alone, pairs, fours = _compose(size, small, canvases)
    rank = np.arange(len(sample)) - (np.cumsum(size) - size)[batch]
    a, p, q = alone[batch], pairs[batch], fours[batch]
    company = (rank >= a).astype(np.int64) + (rank >= a + 2 * p)  # 0 alone, 1 in pairs, 2 in fours
    within = rank - np.where(company == 2, a + 2 * p, np.where(company == 1, a, 0))
    group = np.where(company == 2, q, np.where(company == 1, p, len(sample) + 1))
    row, place = np.divmod(within, group)
    if pairing == "opposite":
        place = np.where(row % 2, group - 1 - place, place)
    else:
        # Sorted by class, those who sit together are a whole row apart: of one class only where it fills a row.
        key = rng.permutation(label.max(initial=0) + 1)[label[sample]] if pairing == "classes" else company
        sample = sample[np.lexsort((rng.random(len(sample)), key, company, batch))]
    canvas = batch * canvases + np.where(company == 2, a + p, np.where(company == 1, a, 0)) + place
    order = np.lexsort((-share[sample], canvas))
    canvas = canvas[order]
    together = np.bincount(canvas)
    slot = np.arange(len(canvas)) - (np.cumsum(together) - together)[canvas]
    return Seats(sample[order], canvas, slot, together[canvas])


def _compose(size: Ints, small: Ints, canvases: int) -> tuple[Ints, Ints, Ints]:
    """How many canvases of each batch hold one, two and up to four samples; they add up to `canvases`.

    With a alone, p pairs and q fours: a + p + q = canvases and a + 2p + 4q = size; q is as near to small / 4 as
    these leave it. Where no whole numbers do, there are no pairs and some of the fours are threes.
    """
    fewest = np.maximum(0, -(-(size - 2 * canvases) // 2))
    most = np.maximum(fewest, (size - canvases) // 3)
    fours = np.clip((small + 2) // 4, fewest, most)
    crowded = size > canvases
    fours = np.where(crowded, fours, 0)
    pairs = np.where(crowded, np.maximum(0, size - canvases - 3 * fours), 0)
    return np.where(crowded, canvases - pairs - fours, size), pairs, fours
