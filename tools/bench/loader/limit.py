"""The limit: the CPU pipeline's own decoding and resizing in a bare loop, and nothing else.

No canvas is pasted, normalised or labelled, and nothing is planned: no loader that decodes and resizes as mixloader
does can be faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import numpy.typing as npt
import torch

from mixloader.pipelines.cpu import resize
from mixloader.pipelines.decode import decode_window
from mixloader.pipelines.views import Views
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.tools.bench.loader.rivals.protocol import Batch, Task, serve

_AHEAD = 2  # batches, for each thread


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
        views = Views.of(batch, shards)
        region = (batch.region[:, 2:] - batch.region[:, :2]).tolist()
        columns = (views.read, views.size.tolist(), views.box.tolist(), batch.window, region)
        return [
            cls(read, tuple(size), tuple(box), window, tuple(to))
            for read, size, box, window, to in zip(*columns, strict=True)
        ]


def batches(task: Task) -> Iterator[Batch]:
    """As many canvases as in the plan's batches, but none of them holds anything."""
    plan, shards = Plan.load(task.plan), ShardSet(task.shards)
    work = [Row.all_of(plan.batch(b), shards) for b in range(plan.batches)]
    nothing = torch.empty(plan.canvases_per_batch, 0)

    def run(rows: list[Row]) -> None:
        for row in rows:
            resize(decode_window(shards.data(*row.read), row.size, row.box, row.window), *row.region)

    with ThreadPoolExecutor(task.threads) as pool:
        waiting: deque[Future[None]] = deque()
        for rows in cycle(work):
            waiting.append(pool.submit(run, rows))
            if len(waiting) > _AHEAD * task.threads:
                waiting.popleft().result()
                yield nothing, nothing, None


if __name__ == "__main__":
    serve(batches)
