"""The limit: the CPU pipeline's own decoding and resizing in bare loops, one process a core, and nothing else.

No canvas is pasted, normalised or labelled, and nothing is planned: no loader that decodes and resizes as mixloader
does can be faster. Processes, because the threads of one Python hold each other up.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.synchronize import Semaphore

import numpy as np
import numpy.typing as npt
import torch

from mixloader.errors import MixloaderError
from mixloader.pipelines.cpu import resize
from mixloader.pipelines.decode import decode_window
from mixloader.pipelines.versions import Versions
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.tools.bench.loader.rivals.protocol import Batch, Task, serve

_AHEAD = 2  # batches, for each process
_PATIENCE = 5.0  # seconds without a batch until somebody looks whether all processes are alive


@dataclass(frozen=True)
class Row:
    """What is decoded and resized for one row of a plan.

    Attributes:
        read: a sample and its level.
        size: width and height of that, pixels.
        box: the window in its pixels.
        window: the same, as the decoder takes it beside.
        region: width and height to resize to, pixels.
    """

    read: tuple[int, int]
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    window: npt.NDArray[np.float32]
    region: tuple[int, int]

    @classmethod
    def all_of(cls, batch: Plan, shards: ShardSet) -> list[Row]:
        """Of one batch, with the level that the pipeline reads."""
        versions = Versions.of(batch, shards)
        region = (batch.region[:, 2:] - batch.region[:, :2]).tolist()
        columns = (versions.read, versions.size.tolist(), versions.box.tolist(), batch.window, region)
        return [
            cls(read, tuple(size), tuple(box), window, tuple(to))
            for read, size, box, window, to in zip(*columns, strict=True)
        ]


def work(task: Task, core: int, part: int, room: Semaphore, done: Semaphore) -> None:
    """Decode and resize every batch of one part of the plan, over and over, on one core.

    Args:
        task: the contestant's.
        core: the number of the only core that is used.
        part: of as many parts as there are threads.
        room: a place for every batch that may be done ahead.
        done: the batches that nobody has counted yet.
    """
    os.sched_setaffinity(0, {core})
    plan, shards = Plan.load(task.plan), ShardSet(task.shards)
    mine = range(part % plan.batches, plan.batches, task.threads)
    batches = [Row.all_of(plan.batch(b), shards) for b in mine]
    for rows in cycle(batches):
        room.acquire()
        for row in rows:
            resize(decode_window(shards.data(*row.read), row.size, row.box, row.window), *row.region)
        done.release()


def batches(task: Task) -> Iterator[Batch]:
    """As many canvases as in the plan's batches, but none of them holds anything."""
    nothing = torch.empty(Plan.load(task.plan).canvases_per_batch, 0)
    context = multiprocessing.get_context("spawn")
    room, done = context.Semaphore(_AHEAD * task.threads), context.Semaphore(0)
    cores = sorted(os.sched_getaffinity(0))
    workers = [
        context.Process(target=work, args=(task, cores[part], part, room, done), daemon=True)
        for part in range(task.threads)
    ]
    with ExitStack() as stack:
        for worker in workers:
            worker.start()
            stack.callback(worker.terminate)
        while True:
            while not done.acquire(timeout=_PATIENCE):
                if not all(worker.is_alive() for worker in workers):
                    raise MixloaderError("a process of the limit died")
            room.release()
            yield nothing, nothing, None


if __name__ == "__main__":
    serve(batches)
