"""The rival: a `torch.utils.data.DataLoader` that draws the same plan with Pillow, in worker processes."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, takewhile

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.split import EMPTY, SLOTS

Item = tuple[Tensor, Tensor]


class PillowCanvases(Dataset[Item]):
    """The canvases of a plan, each drawn as one would write it with Pillow, and normalised.

    One item is (float32 [S, S, 4], int64 [SLOTS]): normalised picture and region map, and the labels. It is
    normalised here, while it is in the processor's cache, and stacked by torch's own collate function straight
    into shared memory.

    Args:
        shards: where the samples are.
        plan: what to draw.
        mean: of the three channels, for values within 0 and 1.
        std: likewise.
    """

    def __init__(self, shards: ShardSet, plan: Plan, mean: Sequence[float], std: Sequence[float]) -> None:
        self._shards, self._plan = shards, plan
        self._shift = torch.tensor([255 * m for m in mean] + [0])
        self._scale = torch.tensor([1 / (255 * s) for s in std] + [1])

    def __len__(self) -> int:
        """Canvases of the epoch."""
        return self._plan.canvases

    def __getitem__(self, number: int) -> Item:
        """Draw one canvas; -1 in its region map, and labels to ignore, where it is empty."""
        plan, side = self._plan, self._plan.canvas_size
        canvas = Image.new("RGB", (side, side))
        slots = torch.full((side, side), -1.0)
        labels = torch.full((SLOTS,), EMPTY)
        for row in range(*np.searchsorted(plan.canvas, (number, number + 1))):
            sample = self._shards[int(plan.sample[row])]
            x0, y0, x1, y1 = plan.region[row].tolist()
            canvas.paste(_draw(sample.data, plan.window[row].tolist(), (x1 - x0, y1 - y0), plan.flip[row]), (x0, y0))
            slots[y0:y1, x0:x1] = int(plan.slot[row])
            labels[int(plan.slot[row])] = sample.label
        picture = torch.empty(side, side, 4)
        picture[..., :3] = torch.from_numpy(np.array(canvas))
        picture[..., 3] = slots
        return picture.sub_(self._shift).mul_(self._scale), labels


def _draw(data: memoryview, window: Sequence[float], size: tuple[int, int], flip: bool) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    ImageOps.exif_transpose(image, in_place=True)
    width, height = image.size
    x0, y0, x1, y1 = window
    box = (x0 * width, y0 * height, x1 * width, y1 * height)
    drawn = (image if image.mode == "RGB" else image.convert("RGB")).resize(size, Image.Resampling.BILINEAR, box)
    return drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else drawn


class Laps(Sampler[list[int]]):
    """The batches of a plan in order, over and over until `open` is cleared: a lap's end costs no worker a wait."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self.open = plan, True

    def __iter__(self) -> Iterator[list[int]]:
        """The canvas numbers of one batch after the other."""
        size = self._plan.canvases_per_batch
        for batch in takewhile(lambda _: self.open, cycle(range(self._plan.batches))):
            yield list(range(batch * size, (batch + 1) * size))


class PillowLoader:
    """Batches of images [C, 4, S, S], channels-last, and labels [C, SLOTS].

    Args:
        canvases: what to draw.
        plan: the plan that they are of.
        workers: processes, each with one thread, on the cores that this process may use.
    """

    def __init__(self, canvases: PillowCanvases, plan: Plan, workers: int) -> None:
        self._laps = Laps(plan)
        self._loader = DataLoader(
            canvases,
            batch_sampler=self._laps,
            num_workers=workers,
            persistent_workers=True,
            multiprocessing_context="spawn",  # a fork of a process that runs DALI's threads may hang
            worker_init_fn=_Confine(os.sched_getaffinity(0)),
        )

    def __iter__(self) -> Iterator[Item]:
        """Batches without end; an iteration that is given up takes back what its workers still draw."""
        self._laps.open = True
        with _interrupts_ignored():
            batches = iter(self._loader)
        try:
            for images, labels in batches:
                yield images.permute(0, 3, 1, 2), labels
        finally:
            self._laps.open = False
            for _ in batches:
                pass

    def close(self) -> None:
        """End the workers."""
        del self._loader


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """For the processes that start within, which inherit it: a terminal sends Ctrl-C to all, and one is to end them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Confine:
    """Keeps a worker to some cores and one thread."""

    def __init__(self, cores: set[int]) -> None:
        self._cores = cores

    def __call__(self, worker: int) -> None:
        os.sched_setaffinity(0, self._cores)
        torch.set_num_threads(1)


def open_rival(shards: ShardSet, plan: Plan, mean: Sequence[float], std: Sequence[float], workers: int) -> PillowLoader:
    """The rival for a plan."""
    return PillowLoader(PillowCanvases(shards, plan, mean, std), plan, workers)
