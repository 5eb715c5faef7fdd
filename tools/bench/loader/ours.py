"""mixloader as a contestant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.tools.bench.loader.plans import EPOCH, open_loader
from mixloader.tools.bench.loader.rivals.protocol import Batch, Task, serve


def batches(task: Task) -> Iterator[Batch]:
    """The same epoch over and over, planned anew each time. No losses are recorded, so its plan stays the same."""
    wanted = Plan.load(task.plan)
    name = Path(task.plan).stem
    with open_loader(Path(task.shards), name, wanted.image_size, task.threads, **task.options) as loader:
        first, planned = wanted.batch(0), loader.plan.batch(0)
        if not all(np.array_equal(getattr(first, c), getattr(planned, c)) for c in ("sample", "region", "window")):
            raise MixloaderError(f"the loader plans another epoch than {task.plan} holds")
        while True:
            loader.set_epoch(EPOCH)
            for images, target in loader:
                yield images, target["labels"], None


if __name__ == "__main__":
    serve(batches)
