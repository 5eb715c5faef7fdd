"""What the loader's tests share: a plain torch loader to compare with, a small network, pipelines of one's own."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from helpers.images import cls_members, jpeg, write_tar
from helpers.pictures import windowed
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import Dataset

from mixloader.loader import Batch, MixLoader
from mixloader.pipelines import Drawn
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.split import split_model

PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
"""Pixels as they were drawn, 0-255."""


class PlanDataset(Dataset[tuple[Tensor, int]]):
    """A plain torch data set of a plan's windows, on a plain order."""

    def __init__(self, shards: ShardSet, plan: Plan) -> None:
        self.shards, self.plan = shards, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        sample = self.shards[int(self.plan.sample[row])]
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(sample.data))).convert("RGB")
        image = windowed(image, self.plan.window[row], (self.plan.canvas_size,) * 2)
        if self.plan.flip[row]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float(), sample.label


class Painter:
    """A pipeline of one's own: uniform canvases. It counts how many draw at once, at most and now."""

    def __init__(self, lanes: int = 1, seconds: float = 0.0) -> None:
        self.lanes, self.seconds = lanes, seconds
        self.busy, self.most, self.closed, self.closed_while_busy = 0, 0, False, False
        self._counting = threading.Lock()

    def draw(self, batch: Plan) -> Drawn:
        with self._counting:
            self.busy += 1
            self.most = max(self.most, self.busy)
        time.sleep(self.seconds)
        with self._counting:
            self.busy -= 1
        shape = (batch.canvases_per_batch, batch.canvas_size, batch.canvas_size, 3)
        return Drawn(torch.full(shape, 51, dtype=torch.uint8))

    def close(self) -> None:
        self.closed_while_busy |= self.busy > 0
        self.closed = True


def ids_of(batches: Iterable[Batch]) -> list[list[int]]:
    return [target["ids"].flatten().tolist() for _, target in batches]


def bytes_of(batch: Batch) -> dict[str, bytes]:
    """A batch, tensor by tensor."""
    images, target = batch
    return {"images": images.numpy().tobytes(), **{name: value.numpy().tobytes() for name, value in target.items()}}


def network() -> nn.Module:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.ReLU())
    return split_model((features, nn.Linear(8, 3))).train()


def train_step(model: nn.Module, batch: Batch) -> Tensor:
    """One step of plain SGD; the logits that it came from."""
    images, target = batch
    logits: Tensor = model(images)
    model.zero_grad()
    F.cross_entropy(logits, target, label_smoothing=0.1).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    return logits.detach()


def train_epoch(loader: MixLoader, model: nn.Module) -> dict[int, float]:
    """Train an epoch; the losses by hand from the logits of every step."""
    by_hand = {}
    for images, target in loader:
        logits = train_step(model, (images, target))
        for canvas, slot in (target["ids"] >= 0).nonzero().tolist():
            row, label = logits[canvas, slot], target["labels"][canvas, slot]
            by_hand[int(target["ids"][canvas, slot])] = float(F.cross_entropy(row, label, label_smoothing=0.1))
    return by_hand


def drawing_threads(prefix: str = "mixloader") -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


def wait_until(true: Callable[[], bool], seconds: float = 10) -> bool:
    """Threads that were told to end do so a little later."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


def write_damaged(folder: Path, bad: Sequence[int] = (5, 7)) -> Path:
    """24 samples; the first of `bad` is a web page, the others are cut off."""
    members = cls_members([i % 3 for i in range(24)])
    for i, sample in enumerate(bad):
        members[2 * sample] = (members[2 * sample][0], jpeg(80, 60)[:700] if i else b"<html>404</html>")
    write_tar(folder / "web.tar", members)
    return folder
