"""`torch.utils.data.DataLoader` with torchvision v2 in worker processes: the data set's items are canvases."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pictures import Jpegs, Normalise, Plan, draw
from protocol import Batch, Task, serve, workers
from torch.utils.data import DataLoader, Dataset


class Canvases(Dataset):
    """Item i is canvas i: uint8 [S, S, 3], and its labels int64 [SLOTS]."""

    def __init__(self, plan: Plan, jpegs: Jpegs) -> None:
        self.plan, self.jpegs = plan, jpegs

    def __getitem__(self, canvas: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one canvas."""
        return draw(self.plan, canvas, self.jpegs), torch.from_numpy(self.jpegs.labels_of(self.plan, canvas))


def batches(task: Task) -> Iterator[Batch]:
    """Batches without end; bytes cross from process to process, a quarter of what floats would take."""
    plan = Plan(task.plan)
    loader = DataLoader(
        Canvases(plan, Jpegs(task.jpegs)),
        batch_sampler=plan.laps(),
        num_workers=workers(task),
    )
    normalise = Normalise(plan.side)
    for canvases, labels in loader:
        yield normalise(canvases), labels, None


if __name__ == "__main__":
    serve(batches)
