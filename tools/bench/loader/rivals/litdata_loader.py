"""LitData: optimised chunks whose items are the JPEGs of one canvas, and its `StreamingDataLoader`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from pictures import Jpegs, Normalise, Plan, draw
from protocol import Batch, Task, serve, workers


class Canvases(StreamingDataset):
    """Draws each item as it comes out of its chunk."""

    def __init__(self, plan: Plan, folder: str) -> None:
        super().__init__(folder, shuffle=False, drop_last=True)
        self._plan = plan

    def __getitem__(self, index: object) -> tuple[torch.Tensor, np.ndarray, int]:
        """One canvas uint8 [S, S, 3], its labels and its number."""
        item = super().__getitem__(index)
        ends = accumulate(item["lengths"].tolist(), initial=0)
        jpegs = [item["jpegs"][start:stop] for start, stop in pairwise(ends)]
        return draw(self._plan, item["canvas"], jpegs), item["labels"], item["canvas"]


def batches(task: Task) -> Iterator[Batch]:
    """Batches without end."""
    plan = Plan(task.plan)
    canvases = Canvases(plan, str(Path(task.stream, "litdata")))
    loader = StreamingDataLoader(
        canvases, batch_size=plan.size, num_workers=workers(task), persistent_workers=task.threads > 1, drop_last=True
    )
    normalise = Normalise(plan.side)
    while True:
        for pictures, labels, numbers in loader:
            yield normalise(pictures), labels, numbers


class _Pack:
    """An item of the chunks. Its fields are the same for all, so a canvas' JPEGs are one, behind each other."""

    def __init__(self, plan: str, jpegs: str) -> None:
        self._plan, self._jpegs = plan, jpegs

    def __call__(self, canvas: int) -> dict[str, object]:
        plan, jpegs = Plan(self._plan), Jpegs(self._jpegs)
        images = [jpegs[plan.sample[row]].tobytes() for row in plan.rows(canvas)]
        return {
            "canvas": canvas,
            "labels": jpegs.labels_of(plan, canvas),
            "lengths": np.array([len(image) for image in images]),
            "jpegs": b"".join(images),
        }


def prepare(plan: str, jpegs: str, folder: str) -> None:
    """Write the chunks, in the plan's order."""
    canvases = list(range(Plan(plan).canvases))
    optimize(_Pack(plan, jpegs), canvases, output_dir=folder, chunk_bytes="64MB", num_workers=1, keep_data_ordered=True)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        serve(batches)
