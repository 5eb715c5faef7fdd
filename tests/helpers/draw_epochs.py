"""Epochs of a loader and plans of every policy, as digests: here, or in a process with an environment of its own."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.runs import POLICIES, build_plan, columns_of, random_losses, random_sizes

from mixloader.loader import MixLoader
from mixloader.policies import Ladder, MixTrain, Run

EPOCHS = 3
POLICY = MixTrain(speedup=1.3, selection=0.5, ladder=Ladder(drop=0, half=1, spread=0.2))
"""Regions of many sizes, and some samples that sit out."""

PLANNED = Run(samples=5_000, batch_size=64, image_size=224, stride=32, epochs=16, drop_last=False)


@dataclass
class Drawn:
    """What was drawn.

    Attributes:
        targets: a digest of each batch's.
        images: a digest of each batch's.
        plans: a digest of each epoch's plan, and of the one that would follow.
        pixels: float32, the last epoch's pictures.
    """

    targets: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    pixels: list[np.ndarray[Any, np.dtype[np.float32]]] = field(default_factory=list)


def digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def losses_of(epoch: int, samples: int) -> torch.Tensor:
    """Losses as if of a network, many of them the same."""
    return torch.from_numpy(np.random.default_rng(epoch).gamma(1, 1, samples).round(1).astype(np.float32))


def draw(loader: MixLoader) -> Drawn:
    """Some epochs, with made-up losses in place of training."""
    drawn = Drawn()
    for epoch in range(EPOCHS):
        losses = losses_of(epoch, len(loader.shards))
        for images, target in loader:
            drawn.images.append(digest([images.numpy().tobytes()]))
            drawn.targets.append(digest(value.numpy().tobytes() for value in target.values()))
            ids = target["ids"][target["ids"] >= 0]
            loader.ledger.record(ids, losses[ids])
            if epoch == EPOCHS - 1:
                drawn.pixels.append(images[:, :3].numpy().copy())
        drawn.plans.append(digest(columns_of(loader.plan).values()))
    loader.set_epoch(EPOCHS + 1)
    drawn.plans.append(digest(columns_of(loader.plan).values()))
    return drawn


def plans() -> list[str]:
    """A digest of a plan of every policy, from losses of which many are the same."""
    found = []
    for seed, policy in enumerate(POLICIES):
        losses = random_losses(seed, PLANNED.samples)
        losses.loss[:] = losses.loss.round(1)
        allocation = policy.allocate(PLANNED, 3, losses, np.random.default_rng(seed))
        sizes, budget = random_sizes(seed, PLANNED.samples), policy.budget(PLANNED, 3)
        plan = build_plan(allocation, PLANNED, sizes, seed=seed, epoch=3, label=losses.label, budget=budget)
        found.append(digest(columns_of(plan).values()))
    return found


def numpy_features() -> list[str]:
    """What of the processor's features numpy uses where it has code for several."""
    umath: Any = vars(np)["_core"]._multiarray_umath
    return [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]


def main(shards: str, out: Path, options: dict[str, Any]) -> None:
    """Draw, and write down what was: digests as JSON, and beside them the pixels."""
    torch.set_num_threads(int(options.pop("torch_threads", torch.get_num_threads())))
    with MixLoader(shards, policy=POLICY, **options) as loader:
        drawn = draw(loader)
    np.savez(out.with_suffix(".npz"), *drawn.pixels)
    facts = {"targets": drawn.targets, "images": drawn.images, "plans": drawn.plans, "planned": plans()}
    machine = {"torch": torch.backends.cpu.get_cpu_capability(), "numpy": numpy_features()}
    out.write_text(json.dumps(facts | machine))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
