"""One training loop for every policy: the user's loop, with a schedule that follows the progress of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mixloader.loader import MixLoader


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, the same for every policy.

    Attributes:
        epochs: length of the run.
        rate: highest learning rate, of SGD with Nesterov momentum 0.9.
        decay: weight decay.
        warmup: the part of the run over which the rate rises from 0; it falls to 0 along a cosine after it.
    """

    epochs: int
    rate: float = 0.1
    decay: float = 5e-4
    warmup: float = 0.15

    def rate_at(self, progress: float) -> float:
        """The learning rate at `progress` of the run, 0 to 1."""
        if progress < self.warmup:
            return self.rate * progress / self.warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


@dataclass(frozen=True)
class Epoch:
    """What an epoch was like.

    Attributes:
        loss: mean over the constituents that were drawn, as recorded in the ledger.
        shares: how many samples were drawn with each share of a whole canvas, rounded to 1/100; 0 sat out.
        cost: whole-image passes.
        seconds: wall time, the loader's and the controller's included.
    """

    loss: float
    shares: dict[float, int]
    cost: float
    seconds: float


def train(
    model: nn.Module,
    loader: MixLoader,
    recipe: Recipe,
    on_step: Callable[[], None],
    on_epoch: Callable[[int], None],
) -> list[Epoch]:
    """Train a split model, and tell what each epoch was like.

    Args:
        model: as `split_model` returns it.
        loader: of `recipe.epochs` epochs.
        recipe: how to train.
        on_step: called after every step.
        on_epoch: called with every epoch's number, after its last step.
    """
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.rate, momentum=0.9, nesterov=True, weight_decay=recipe.decay
    )
    steps = recipe.epochs * len(loader)
    epochs: list[Epoch] = []
    model.train()
    for epoch in range(recipe.epochs):
        begin = time.perf_counter()
        for step, (images, target) in enumerate(loader):
            optimizer.param_groups[0]["lr"] = recipe.rate_at((epoch * len(loader) + step) / steps)
            loss = criterion(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_step()
        epochs.append(_describe(loader, epoch, time.perf_counter() - begin))
        on_epoch(epoch)
    return epochs


def _describe(loader: MixLoader, epoch: int, seconds: float) -> Epoch:
    losses = loader.ledger.snapshot()
    drawn = losses.loss[losses.seen == epoch]
    values, counts = np.unique(loader.plan.shares.round(2), return_counts=True)
    shares = {round(float(v), 2): int(c) for v, c in zip(values, counts, strict=True)}
    if len(loader.shards) > len(loader.plan):
        shares[0.0] = len(loader.shards) - len(loader.plan)
    return Epoch(float(drawn.mean()), shares, loader.plan.cost, seconds)


@torch.no_grad()
def accuracy(model: nn.Module, loader: MixLoader) -> float:
    """Top-1 accuracy in per cent on whole images."""
    model.eval()
    right = total = 0
    for images, target in loader:
        label = target["labels"][:, 0]
        there = label >= 0
        right += int((model(images).argmax(dim=1) == label)[there].sum())
        total += int(there.sum())
    return 100 * right / total
