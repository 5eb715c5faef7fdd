"""LitData: optimised chunks whose items are the JPEGs of one canvas, and its `StreamingDataLoader`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from pictures import Jpegs, Normalise, Plan, draw
from protocol import Batch, Task, serve


class Canvases(StreamingDataset):
    """Draws each item as it comes out of its chunk."""

    def __init__(self, plan: Plan, jpegs: Jpegs, folder: str) -> None:
        super().__init__(folder, shuffle=False, drop_last=True)
        self._plan, self._jpegs = plan, jpegs

    def __getitem__(self, index: object) -> tuple[torch.Tensor, torch.Tensor, int]:
        """One canvas uint8 [S, S, 3], its labels and its number."""
        item = super().__getitem__(index)
        canvas = item["canvas"]
        return draw(self._plan, canvas, item["jpegs"]), torch.from_numpy(item["labels"]), canvas


def batches(task: Task) -> Iterator[Batch]:
    """Batches without end."""
    plan = Plan(task.plan)
    torch.set_num_threads(1)
    canvases = Canvases(plan, Jpegs(task.jpegs), str(Path(task.stream, "litdata")))
    loader = StreamingDataLoader(
        canvases, batch_size=plan.size, num_workers=task.threads, persistent_workers=True, drop_last=True
    )
    normalise = Normalise(plan.side)
    while True:
        for pictures, labels, numbers in loader:
            yield normalise(pictures), labels, numbers


class _Pack:
    def __init__(self, plan: str, jpegs: str) -> None:
        self._plan, self._jpegs = plan, jpegs

    def __call__(self, canvas: int) -> dict[str, object]:
        plan, jpegs = Plan(self._plan), Jpegs(self._jpegs)
        images = [jpegs[plan.sample[row]].tobytes() for row in plan.rows(canvas)]
        return {"canvas": canvas, "labels": np.asarray(jpegs.labels_of(plan, canvas)), "jpegs": images}


def prepare(plan: str, jpegs: str, folder: str) -> None:
    """Write the chunks, in the plan's order."""
    canvases = list(range(Plan(plan).canvases))
    optimize(_Pack(plan, jpegs), canvases, output_dir=folder, chunk_bytes="64MB", num_workers=1, keep_data_ordered=True)


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        serve(batches)
