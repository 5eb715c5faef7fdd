"""One training loop for every policy: the user's loop, with a schedule that follows the progress of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mixloader.loader import MixLoader


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, the same for every policy.

    Attributes:
        epochs: length of the run.
        batch_size: samples of a step.
        rate: highest learning rate.
        optimizer: `sgd`, with Nesterov momentum 0.9, or `adamw`.
        decay: weight decay.
        warmup: the part of the run over which the rate rises from 0; it falls to 0 along a cosine after it.
        cutmix: the chance that a batch, of whole images, is augmented with CutMix: for comparisons.
    """

    epochs: int
    batch_size: int = 128
    rate: float = 0.1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    decay: float = 5e-4
    warmup: float = 0.15
    cutmix: float = 0.0

    def rate_at(self, progress: float) -> float:
        """The learning rate at `progress` of the run, 0 to 1."""
        if progress < self.warmup:
            return self.rate * progress / self.warmup
        return self.rate * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def open_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model's parameters."""
        if self.optimizer == "adamw":
            return torch.optim.AdamW(model.parameters(), lr=self.rate, weight_decay=self.decay)
        return torch.optim.SGD(model.parameters(), lr=self.rate, momentum=0.9, nesterov=True, weight_decay=self.decay)


@dataclass(frozen=True)
class Epoch:
    """What an epoch was like.

    Attributes:
        loss: mean over the constituents that were drawn, as recorded in the ledger; NaN where none was, as with CutMix.
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
    on_step: Callable[[], None] = lambda: None,
    on_epoch: Callable[[int], None] = lambda epoch: None,
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
    optimizer = recipe.open_optimizer(model)
    steps = recipe.epochs * len(loader)
    epochs: list[Epoch] = []
    augment = _cutmix(recipe.cutmix, len(loader.shards.classes)) if recipe.cutmix else None
    model.train()
    for epoch in range(recipe.epochs):
        begin = time.perf_counter()
        for step, (images, target) in enumerate(loader):
            optimizer.param_groups[0]["lr"] = recipe.rate_at((epoch * len(loader) + step) / steps)
            inputs, answer = (images, target) if augment is None else augment(images[:, :3], target["labels"][:, 0])
            loss = criterion(model(inputs), answer)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_step()
        epochs.append(_describe(loader, epoch, time.perf_counter() - begin))
        on_epoch(epoch)
    return epochs


def _cutmix(chance: float, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images [C, 3, S, S] and labels [C] to the same with labels [C, classes], mixed by torchvision with a chance."""
    from mixloader.tools.vision import import_torchvision

    import_torchvision()
    from torchvision.transforms import v2

    mix = v2.CutMix(num_classes=classes)

    def augment(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if torch.rand(()) < chance:
            mixed: tuple[Tensor, Tensor] = mix(images, labels)
            return mixed
        return images, nn.functional.one_hot(labels, classes).float()

    return augment


def _describe(loader: MixLoader, epoch: int, seconds: float) -> Epoch:
    losses = loader.ledger.snapshot()
    drawn = losses.loss[losses.seen == epoch]
    values, counts = np.unique(loader.plan.shares.round(2), return_counts=True)
    shares = {round(float(v), 2): int(c) for v, c in zip(values, counts, strict=True)}
    if len(loader.shards) > len(loader.plan):
        shares[0.0] = len(loader.shards) - len(loader.plan)
    return Epoch(float(drawn.mean()) if len(drawn) else math.nan, shares, loader.plan.cost, seconds)


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
