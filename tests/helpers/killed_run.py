"""A training run that may be killed at any moment and started again: it goes on from its last checkpoint."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mixloader import MixLoader, split_model
from mixloader.policies import MixTrain

SAVED_EVERY = 3  # steps
PACE = 0.01  # seconds of a step: none is over before a signal comes


def train(shards: str, folder: Path, epochs: int) -> None:
    """Train to the end, or go on with it. `final.pt` has what became of it, `plan.npz` the last plan."""
    loader = MixLoader(shards, 16, 64, policy=MixTrain(speedup=1.4), epochs=epochs, stride=16, seed=3, threads=3)
    torch.manual_seed(0)
    model = split_model((nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.Tanh()), nn.Linear(8, 5))).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    trained = torch.zeros(epochs, len(loader.shards), dtype=torch.int64)
    checkpoint = folder / "checkpoint.pt"

    def state() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "loader": loader.state_dict(),
            "trained": trained,
        }

    def save(path: Path) -> None:
        print("saving", flush=True)
        torch.save(state(), folder / "new.pt")
        (folder / "new.pt").replace(path)  # whole or not at all

    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
        trained.copy_(saved["trained"])
        first = saved["loader"]["epoch"]
    print("ready", flush=True)
    for epoch in range(first, epochs):
        step = loader.state_dict()["step"]
        for b, (images, target) in enumerate(loader, step):
            optimizer.zero_grad()
            F.cross_entropy(model(images), target).backward()
            optimizer.step()
            ids = target["ids"][target["ids"] >= 0]
            trained[epoch] += torch.bincount(ids, minlength=trained.shape[1])
            time.sleep(PACE)
            if b % SAVED_EVERY == 0:
                save(checkpoint)
            print(f"step {epoch} {b}", flush=True)
        save(checkpoint)
    loader.plan.save(folder / "plan.npz")
    save(folder / "final.pt")
    loader.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
