"""Many epochs of a loader in this process, and what the process holds after each."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from mixloader.loader import MixLoader
from mixloader.policies import Policy
from mixloader.split import SLOTS, SplitTarget

_PROCESS = Path("/proc/self")
_PAUSE = 1.0  # seconds: once an epoch the loop stands still, as for a checkpoint, and all that is drawn ahead is there
_PATIENCE = 10.0  # seconds in which threads that were told to end do


@dataclass(frozen=True)
class Held:
    """What a process holds.

    Attributes:
        resident: bytes of memory.
        threads: their names.
        files: what its descriptors are of.
    """

    resident: int
    threads: tuple[str, ...]
    files: tuple[str, ...]

    @classmethod
    def now(cls) -> Held:
        """By this process, once its garbage is collected."""
        gc.collect()
        pages = int((_PROCESS / "statm").read_text().split()[1])
        threads, files = [], []
        for thread in (_PROCESS / "task").iterdir():
            with suppress(OSError):  # it has just ended
                threads.append((thread / "comm").read_text().strip())
        for descriptor in (_PROCESS / "fd").iterdir():
            with suppress(OSError):  # that of the list itself
                files.append(str(descriptor.readlink()))
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), tuple(sorted(threads)), tuple(sorted(files)))

    def more_than(self, before: Held) -> list[str]:
        """The threads and files that were not there before."""
        threads = Counter(self.threads) - Counter(before.threads)
        files = Counter(self.files) - Counter(before.files)
        return [f"thread {name}" for name in threads.elements()] + [f"file {name}" for name in files.elements()]


@dataclass(frozen=True)
class Epoch:
    """What is noted after an epoch.

    Attributes:
        name: its number, counted from 1, or `warm-up`.
        canvas_size: side, pixels.
        canvases: of a batch.
        seconds: it took.
        held: after it.
    """

    name: str
    canvas_size: int
    canvases: int
    seconds: float
    held: Held


class Soak:
    """A run in this process, and what is left after it.

    Args:
        shards: their folder.
        batch_size: samples of a step.
        image_size: side of a whole canvas, pixels.
        policy: who gets what; the canvases of its last epoch are its largest.
        epochs: length of the run.
        pipeline: what draws.
        threads: that decode; None takes all cores.
    """

    def __init__(
        self,
        shards: Path,
        batch_size: int,
        image_size: int,
        policy: Policy,
        epochs: int,
        pipeline: Literal["cpu", "dali", "pillow"],
        threads: int | None,
    ) -> None:
        self._shards, self._batch_size, self._image_size = shards, batch_size, image_size
        self._policy, self._length, self._pipeline, self._threads = policy, epochs, pipeline, threads
        self._random = torch.Generator().manual_seed(0)
        ids = torch.arange(batch_size * SLOTS).view(batch_size, SLOTS)
        ones = torch.ones(ids.shape)
        empty = SplitTarget({"labels": ids % 2, "ids": ids, "weights": ones, "norms": ones, "shares": ones})
        self._step(torch.zeros(batch_size, 4, image_size, image_size), empty, 2)  # torch's own threads are there now
        self._before = Held.now()

    def run(self) -> list[Epoch]:
        """Iterate over an epoch of the largest canvases, which does not count, and over the run."""
        with self._open() as loader:
            loader.set_epoch(self._length - 1)
            with torch.no_grad():  # nothing is recorded
                rows = [self._epoch(loader, "warm-up")]
            loader.set_epoch(0)
            return rows + [self._epoch(loader, str(epoch + 1)) for epoch in range(self._length)]

    def left_by_closing(self) -> list[str]:
        """The threads and files that a loader leaves when it is closed, but kept."""
        loader = self._open()
        self._epoch(loader, "1")
        loader.close()
        return self._left()

    def left_by_dropping(self) -> list[str]:
        """The threads and files that a loader leaves that is not closed, and lost in the middle of an epoch."""
        batches = iter(self._open())
        next(batches), next(batches)
        lost = [batches]
        lost.append(lost)  # type: ignore[arg-type]  # only a collection of garbage finds it
        del batches, lost
        return self._left()

    def _left(self) -> list[str]:
        deadline = time.monotonic() + _PATIENCE
        while (left := Held.now().more_than(self._before)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _open(self) -> MixLoader:
        return MixLoader(
            self._shards,
            self._batch_size,
            self._image_size,
            policy=self._policy,
            epochs=self._length,
            pipeline=self._pipeline,
            threads=self._threads,
        )

    def _epoch(self, loader: MixLoader, name: str) -> Epoch:
        start, shape, classes = time.perf_counter(), torch.Size([]), len(loader.shards.classes)
        for step, (images, target) in enumerate(loader):
            if step == 1:
                time.sleep(_PAUSE)
            self._step(images, target, classes)
            shape = images.shape
        del images, target
        seconds = time.perf_counter() - start
        return Epoch(name, shape[2], shape[0], seconds, Held.now())

    def _step(self, images: torch.Tensor, target: SplitTarget, classes: int) -> None:
        """A stand-in for training: looks at every pixel, and records losses that it made up."""
        logits = torch.randn((len(images), SLOTS, classes), generator=self._random) + images.mean()
        F.cross_entropy(logits, target)  # type: ignore[arg-type]  # a target scores itself


def growth(rows: Sequence[Epoch]) -> float:
    """MB by which the epochs after the second hold more than the process did until then, at its most."""
    until = max(row.held.resident for row in rows[:3])  # the warm-up, and two epochs
    return (max(row.held.resident for row in rows[3:]) - until) / 1e6


def drifts(rows: Sequence[Epoch]) -> dict[int, float]:
    """MB between the first and the last epoch after the second, for each side of canvases that comes twice."""
    found: dict[int, list[int]] = {}
    for row in rows[3:]:
        found.setdefault(row.canvas_size, []).append(row.held.resident)
    return {side: (values[-1] - values[0]) / 1e6 for side, values in found.items() if len(values) > 1}
