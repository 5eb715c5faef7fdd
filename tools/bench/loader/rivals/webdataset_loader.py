"""webdataset: tars whose samples are the JPEGs of one canvas, one tar for each worker, and its `WebLoader`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import webdataset as wds
from pictures import Normalise, Plan, draw
from protocol import Batch, Task, serve, workers


def batches(task: Task) -> Iterator[Batch]:
    """Batches without end."""
    plan = Plan(task.plan)

    def one(sample: dict) -> tuple[torch.Tensor, torch.Tensor, int]:
        canvas = int(sample["__key__"])
        jpegs = [sample[f"{place}.jpg"] for place in range(len(plan.rows(canvas)))]
        return draw(plan, canvas, jpegs), torch.tensor(json.loads(sample["labels.json"])), canvas

    tars = sorted(map(str, Path(task.stream, f"webdataset-{task.threads}").glob("*.tar")))
    canvases = wds.WebDataset(tars, shardshuffle=False, nodesplitter=wds.single_node_only).repeat().map(one)
    loader = wds.WebLoader(canvases, batch_size=plan.size, num_workers=workers(task))
    normalise = Normalise(plan.side)
    for pictures, labels, numbers in loader:
        yield normalise(pictures), labels, numbers


if __name__ == "__main__":
    serve(batches)
