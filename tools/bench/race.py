"""The race: two loaders that draw the same plan on the same cores, measured in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mixloader.errors import MixloaderError
from mixloader.loader import IMAGENET_MEAN, IMAGENET_STD, Batch, MixLoader
from mixloader.policies import Ladder, MixTrain, Resolution
from mixloader.shards import ShardSet
from mixloader.tools.bench.pillow_loader import PillowLoader, open_rival

MIX, RIVAL = "MixLoader", "DataLoader"
_SAMPLES = 56  # of a step, or fewer: the largest multiple of 7 that the data set has
_EPOCH, _EPOCHS, _SPEEDUP = 1, 3, 1.4  # all but the first of three epochs have 4/7 of a canvas a sample, exactly
_SHARED = MixTrain(_SPEEDUP, selection=1, resolution=Resolution(side=1), ladder=Ladder(drop=0, half=1))
_UNTIMED = 4  # batches until both loaders' queues are full
_TOLERANCE = 1 / 255


@dataclass(frozen=True)
class Race:
    """The outcome on one number of threads.

    Attributes:
        threads: cores, threads of MixLoader, workers of the DataLoader.
        canvases_per_batch: of both.
        images_per_canvas: mean.
        difference: mean difference of the two loaders' pictures, of values within 0 and 1.
        rates: composites a second by loader, one figure for each round.
    """

    threads: int
    canvases_per_batch: int
    images_per_canvas: float
    difference: float
    rates: dict[str, list[float]]

    def median(self, loader: str) -> float:
        """Composites a second of one loader."""
        return median(self.rates[loader])

    def ratios(self) -> tuple[float, float, float]:
        """Least, median and largest ratio MixLoader / DataLoader of the rounds."""
        ratios = [mix / rival for mix, rival in zip(self.rates[MIX], self.rates[RIVAL], strict=True)]
        return min(ratios), median(ratios), max(ratios)

    def summary(self) -> dict[str, Any]:
        """All figures, for JSON."""
        least, middle, most = self.ratios()
        return {
            "threads": self.threads,
            "canvases_per_batch": self.canvases_per_batch,
            "images_per_canvas": self.images_per_canvas,
            "difference": self.difference,
            "composites_per_second": {name: self.median(name) for name in self.rates},
            "images_per_second": {name: self.median(name) * self.images_per_canvas for name in self.rates},
            "ratio": {"min": least, "median": middle, "max": most},
            "rounds": self.rates,
        }


def run_race(
    shards: ShardSet, threads: int, rounds: int, seconds: float, image_size: int, report: Callable[[str], object]
) -> Race:
    """Measure both loaders on `threads` cores, `rounds` times in turns.

    Raises:
        MixloaderError: the two do not deliver the same picture, or there are too few images.
    """
    samples = min(_SAMPLES, len(shards) // 7 * 7)
    if not samples:
        raise MixloaderError(f"{shards.path} has {len(shards)} images: the benchmark needs 7 at least")
    with _confined(threads):
        mix = MixLoader(
            shards,
            samples,
            image_size,
            policy=_SHARED,
            epochs=_EPOCHS,
            drop_last=True,
            threads=threads,
        )
        mix.set_epoch(_EPOCH)
        rival = open_rival(shards, mix.plan, IMAGENET_MEAN, IMAGENET_STD, workers=threads)
        with closing(mix), closing(rival):
            difference = _compare(mix, rival)
            rates: dict[str, list[float]] = {MIX: [], RIVAL: []}
            for number in range(1, rounds + 1):
                rates[MIX].append(_measure(_laps(mix), seconds))
                rates[RIVAL].append(_measure(iter(rival), seconds))
                report(
                    f"threads {threads}, round {number} of {rounds}: MixLoader {rates[MIX][-1]:,.0f}, "
                    f"DataLoader {rates[RIVAL][-1]:,.0f} composites/s, ratio {rates[MIX][-1] / rates[RIVAL][-1]:.2f}"
                )
        plan = mix.plan
    return Race(threads, plan.canvases_per_batch, len(plan) / plan.canvases, difference, rates)


@contextmanager
def _confined(cores: int) -> Iterator[None]:
    """Keep the threads and processes that start within to some cores, so that none has help from the others."""
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(before)[:cores])
    torch.set_num_threads(cores)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, before)


def _laps(mix: MixLoader) -> Iterator[Batch]:
    """The same epoch over and over. No losses are recorded, so its plan is the same every time."""
    while True:
        mix.set_epoch(_EPOCH)
        yield from mix


def _measure(batches: Iterator[tuple[Tensor, Any]], seconds: float) -> float:
    """Composites a second, once the loader runs evenly."""
    try:
        for _ in range(_UNTIMED):
            next(batches)
        begin, elapsed, drawn = time.perf_counter(), 0.0, 0
        while elapsed < seconds:
            drawn += len(next(batches)[0])
            elapsed = time.perf_counter() - begin
        return drawn / elapsed
    finally:
        batches.close()  # type: ignore[attr-defined]  # generators: what is still being drawn must not slow the other


def _compare(mix: MixLoader, rival: PillowLoader) -> float:
    """The mean difference of the first batch's pictures, of values within 0 and 1.

    Raises:
        MixloaderError: it is too large, or region maps or labels differ.
    """
    with closing(_laps(mix)) as ours, closing(iter(rival)) as others:  # type: ignore[type-var]
        (images, target), (other, labels) = next(ours), next(others)
        std = torch.tensor(IMAGENET_STD)[:, None, None]
        difference = float(((images[:, :3] - other[:, :3]) * std).abs().mean())
        same = torch.equal(images[:, 3], other[:, 3]) and torch.equal(target["labels"], labels)
    if not same or not difference < _TOLERANCE:
        raise MixloaderError(
            f"the two loaders do not deliver the same batch: pictures differ by {255 * difference:.2f} / 255 in the "
            f"mean (allowed: 1), region maps and labels {'agree' if same else 'differ'}; no figures"
        )
    return difference
