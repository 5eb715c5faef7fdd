"""Grain: a `MapDataset` of canvases and of batches of them, read ahead by threads or by processes."""

from __future__ import annotations

from collections.abc import Iterator

import grain
import numpy as np
import torch
from pictures import Jpegs, Normalise, Plan, draw
from protocol import Batch, Task, serve

_AHEAD = 2  # batches, for each thread or process


def batches(task: Task) -> Iterator[Batch]:
    """Batches without end, put together by those who read ahead; bytes cross from process to process."""
    plan, jpegs = Plan(task.plan), Jpegs(task.jpegs)
    normalise = Normalise(plan.side)

    def one(canvas: int) -> tuple[np.ndarray, np.ndarray]:
        return draw(plan, canvas, jpegs).numpy(), jpegs.labels_of(plan, canvas)

    def finish(batch: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        return normalise(torch.from_numpy(batch[0])), torch.from_numpy(batch[1])

    made = grain.MapDataset.range(plan.canvases).repeat(None).map(one).batch(plan.size)
    if task.options["workers"] == "threads":
        reading = grain.ReadOptions(num_threads=task.threads, prefetch_buffer_size=_AHEAD * task.threads)
        finished = iter(made.map(finish).to_iter_dataset(reading))
    else:
        reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        workers = grain.MultiprocessingOptions(num_workers=task.threads, per_worker_buffer_size=_AHEAD)
        finished = map(finish, made.to_iter_dataset(reading).mp_prefetch(workers))
    for images, labels in finished:
        yield images, labels, None


if __name__ == "__main__":
    from absl import app

    app.run(lambda argv: serve(batches))
