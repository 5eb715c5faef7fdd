"""How a contestant talks to the race: JSON, one object a line, on standard input and output.

A contestant is a process of its own, on cores that were chosen before it started. It says that it is ready when its
first batch is there; then it saves that batch, or measures, whenever it is asked to. In between it is stopped. This
module needs the standard library, NumPy and torch only, since rivals run in another environment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Batch = tuple[torch.Tensor, torch.Tensor, Any]
"""Images float32 [C, 3 or 4, S, S] (normalised; channel 3 is the region map), labels int64 [C, 4], and the numbers of
the canvases [C], or None where they come in the plan's order."""


@dataclass(frozen=True)
class Task:
    """What a contestant is to deliver.

    Attributes:
        plan: path of the plan, `.npz`.
        jpegs: folder of the JPEGs: see `pictures.Jpegs`.
        stream: folder of what streaming contestants read, in the plan's order.
        shards: folder of mixloader's shards.
        threads: threads or worker processes, and cores.
        options: of this contestant.
    """

    plan: str
    jpegs: str
    stream: str
    shards: str
    threads: int
    options: dict[str, Any]


def workers(task: Task) -> int:
    """Worker processes of a `DataLoader`: none where there is one thread, as then nothing has to be handed over."""
    return task.threads if task.threads > 1 else 0


def serve(draw: Callable[[Task], Iterator[Batch]]) -> None:
    """Be a contestant: the task is the only argument of the command line. Never returns."""
    task = Task(**json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not end up among the answers
    batches = draw(task)
    first = next(batches)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "end":
            break
        answer = _save(first, order["path"]) if order["do"] == "save" else _measure(batches, **order["how"])
        print(json.dumps(answer), file=answers, flush=True)
    batches.close()  # type: ignore[attr-defined]  # a generator: it gives back processes and shared memory
    answers.flush()
    os.killpg(0, signal.SIGTERM)  # whatever is left, this process included


def _save(batch: Batch, path: str) -> dict[str, Any]:
    images, labels, canvases = batch
    canvases = np.arange(len(images)) if canvases is None else np.asarray(canvases)
    # Only what a float32 array holds: bit for bit what the training loop would get.
    np.savez(path, images=images.contiguous().numpy(), labels=labels.numpy(), canvases=canvases)
    return {"saved": path}


def _measure(batches: Iterator[Batch], seconds: float, untimed: int) -> dict[str, Any]:
    """Composites and seconds, once the queues that filled meanwhile are empty."""
    for _ in range(untimed):
        next(batches)
    begin, elapsed, drawn = time.perf_counter(), 0.0, 0
    while elapsed < seconds:
        drawn += len(next(batches)[0])
        elapsed = time.perf_counter() - begin
    return {"composites": drawn, "seconds": elapsed}
