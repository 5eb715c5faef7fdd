"""Dealing: which samples make up each batch. Once an epoch, for all samples, in a few sorts and little memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.order import CHUNK, Ids, gather, shuffled, shuffled_rows, sort_with_places
from mixloader.policies.policy import Run

Ints = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Deal:
    """Who is drawn in each batch: B batches, M samples.

    Attributes:
        sample: uint32 [M], by batch; within a batch, largest share first.
        start: int64 [B + 1]: batch b is `sample[start[b]:start[b + 1]]`.
        small: int64 [B], how many of each batch, its last ones, have small shares.
    """

    sample: Ids
    start: Ints
    small: Ints


def deal(rng: np.random.Generator, share: Shares, run: Run, *, small: float, shuffle: bool) -> Deal:
    """Give every batch the same mix of shares.

    Samples, sorted by share, are dealt out like cards: each round gives one to every batch, and a short last
    batch is passed over in rounds spread evenly. Equal shares keep the shuffled order, so that with one share for
    all, batch b is the next `batch_size` samples of the shuffle, as from a plain loader. Who has no share takes a
    card too, and is then left out; so is a last batch that is dropped.

    Args:
        rng: the epoch's chance.
        share: float32 [N], by id.
        run: the fixed facts of the run.
        small: shares below it are counted as small.
        shuffle: False deals the samples in the order of their ids.
    """
    sample = shuffled(rng, run.samples) if shuffle else np.arange(run.samples, dtype=np.uint32)
    given = gather(share, sample)
    drawn = given > 0
    if not drawn.all():
        sample = sample[drawn]
        given = given[drawn]
    del drawn
    if len(given) == 0 or given.min() == given.max():
        start = np.concatenate(([0], np.cumsum(_sizes(rng, run, len(sample)))))
        size = np.diff(start)
        return Deal(sample[: start[-1]], start, size if len(given) and given[0] < small else np.zeros_like(size))
    large = np.count_nonzero(given >= np.float32(small))
    keys = (~given.view(np.uint32)).astype(np.uint64)  # floats of one sign lie as their bits do: the largest first
    del given
    heights, places = sort_with_places(keys)
    sample = gather(sample, places)
    changes = heights[1:] != heights[:-1]
    keys[0] = 0
    np.cumsum(changes, out=keys[1:])  # the number of each share, counted from the largest
    keys <<= np.uint64(32)
    keys |= _turns(rng, run, len(keys))
    keys.sort()  # those of one share by batch
    _, places = sort_with_places(keys)  # by batch, and from the largest share down
    firsts = np.arange(run.steps + 1, dtype=np.uint64) << np.uint64(32)
    start = np.searchsorted(keys, firsts)
    crowd = start[1:] - np.searchsorted(keys, firsts[:-1] + np.uint64(large))
    return Deal(gather(sample, places[: start[-1]]), start, crowd)


def _sizes(rng: np.random.Generator, run: Run, count: int) -> Ints:
    """How many of the first `count` samples each batch gets, int64 [B]."""
    if count == run.samples:
        return np.diff(np.minimum(np.arange(run.steps + 1) * run.batch_size, count))
    batch, sizes = _turns(rng, run, count), np.zeros(-(-run.samples // run.batch_size), np.int64)
    for first in range(0, count, CHUNK):
        part = np.bincount(batch[first : first + CHUNK])
        sizes[: len(part)] += part
    return sizes[: run.steps]


def _turns(rng: np.random.Generator, run: Run, count: int) -> Ids:
    """The batch that each of the first `count` samples is dealt to, uint32; a round's turns are random."""
    batches = -(-run.samples // run.batch_size)
    last = run.samples - (batches - 1) * run.batch_size
    everyone = np.diff(np.arange(run.batch_size + 1) * last // run.batch_size) > 0
    turns, done = np.empty(count, np.uint32), 0
    at_once = max(1, CHUNK // batches)
    for first in range(0, run.batch_size, at_once):
        here = everyone[first : first + at_once, None]
        rounds = shuffled_rows(rng, len(here), batches)
        dealt = rounds[here | (rounds < np.uint64(batches - 1))][: count - done]
        turns[done : done + len(dealt)] = dealt
        done += len(dealt)
        if done == count:
            break
    return turns
