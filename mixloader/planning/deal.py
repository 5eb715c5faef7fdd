"""Dealing: which samples make up each batch. Once an epoch, for all samples, in a few sorts and little memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixloader.order import (
    CHUNK,
    Ids,
    Shuffle,
    gather,
    lower,
    shuffled,
    shuffled_rows,
    sort_with_places,
    sorted_ids,
    upper,
)
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
    drawn, large = (int(np.count_nonzero(chosen)) for chosen in (share > 0, share >= np.float32(small)))
    keys = sorted_ids(share, Shuffle.draw(rng) if shuffle else None, falling=True)[:drawn]
    sample = lower(keys).copy()
    if drawn == 0 or upper(keys)[0] == upper(keys)[-1]:
        size = _sizes(rng, run, drawn)
        start = np.cumsum(np.append(0, size))
        return Deal(sample[: start[-1]], start, np.zeros_like(size) if large else size)
    changes = upper(keys)[1:] != upper(keys)[:-1]
    keys[0] = 0
    np.cumsum(changes, out=keys[1:])  # the number of each share, counted from the largest
    keys <<= np.uint64(32)
    lower(keys)[:] = _turns(rng, run, drawn)
    keys.sort()  # those of one share by batch
    sort_with_places(keys)  # by batch, and from the largest share down
    firsts = np.arange(run.steps + 1, dtype=np.uint64) << np.uint64(32)
    start = np.searchsorted(keys, firsts)
    crowd = start[1:] - np.searchsorted(keys, firsts[:-1] + np.uint64(large))
    return Deal(gather(sample, lower(keys)[: start[-1]]), start, crowd)


def _sizes(rng: np.random.Generator, run: Run, count: int) -> Ints:
    """How many of the first `count` samples each batch gets, int64 [B]: what `_turns` would say, without the turns."""
    everyone = _everyone(run)
    batches = _batches(run)
    dealt = np.cumsum(np.append(0, batches - 1 + everyone))
    rounds = int(np.searchsorted(dealt, count, side="right")) - 1
    sizes = np.full(batches, rounds)
    sizes[-1] = np.count_nonzero(everyone[:rounds])
    rest = count - int(dealt[rounds])
    if rest:
        sizes[shuffled(rng, int(dealt[rounds + 1] - dealt[rounds]))[:rest]] += 1
    return sizes[: run.steps]


def _turns(rng: np.random.Generator, run: Run, count: int) -> Ids:
    """The batch that each of the first `count` samples is dealt to, uint32; a round's turns are random."""
    batches, everyone = _batches(run), _everyone(run)
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


def _batches(run: Run) -> int:
    """How many are dealt to: a last one that is dropped, too."""
    return -(-run.samples // run.batch_size)


def _everyone(run: Run) -> npt.NDArray[np.bool_]:
    """Bool [batch_size]: the rounds in which a short last batch is not passed over, spread evenly."""
    last = run.samples - (_batches(run) - 1) * run.batch_size
    return np.diff(np.arange(run.batch_size + 1) * last // run.batch_size) > 0
