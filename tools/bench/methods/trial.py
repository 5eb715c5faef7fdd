"""A trial: one network trained once under one policy, and tested once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from mixloader.policies import Policy, Run
from mixloader.tools.bench.methods.borders import Border, close_borders
from mixloader.tools.datasets import Splits

Split = Literal["validation", "test"]


@dataclass(frozen=True)
class Entry:
    """A contestant.

    Attributes:
        name: in tables.
        policy: who gets how much canvas.
        epochs: length of its run.
        cost: what it is held against: passes / plain passes; 1 for what runs at full cost.
        cutmix: the chance of CutMix, as ordinary augmentation of a batch of whole images.
        border: how convolutions are kept within their region.
        isolate: whether a transformer's attention is.
        split: whether every constituent has logits of its own; without, a canvas is scored with its soft label.
    """

    name: str
    policy: Policy
    epochs: int
    cost: float
    cutmix: float = 0.0
    border: Border = "open"
    isolate: bool = False
    split: bool = True


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        data: name of the data set.
        network: name of the network.
        plain_epochs: length of plain training, which costs are relative to.
        entry: the contestant.
        seed: of the network and of every plan.
        tested_on: the split whose pictures it is tested on.
        device: where it trains.
        rate: highest learning rate; None for the setup's own.
    """

    data: str
    network: str
    plain_epochs: int
    entry: Entry
    seed: int
    tested_on: Split
    device: str = "cpu"
    rate: float | None = None

    def key(self) -> dict[str, Any]:
        """What tells it from every other trial, for JSON: a trial with this key need not be run again."""
        return {
            "data": self.data,
            "network": self.network,
            "plain_epochs": self.plain_epochs,
            "name": self.entry.name,
            "target": self.entry.cost,
            "policy": repr(self.entry.policy),
            "epochs": self.entry.epochs,
            "cutmix": self.entry.cutmix,
            "border": self.entry.border,
            "isolate": self.entry.isolate,
            "split": self.entry.split,
            "seed": self.seed,
            "tested_on": self.tested_on,
            "device": self.device,
            "rate": self.rate,
        }


def check_trial(trial: Trial, splits: Splits) -> None:
    """Refuse, before anything is trained, a trial whose cost cannot be met, or that is not for its network.

    Raises:
        MixloaderError: the policy cannot save as much in this run, the network does not take its canvases, or it has
            no attention to isolate.
    """
    from mixloader.errors import MixloaderError
    from mixloader.shards import ShardSet
    from mixloader.tools.bench.methods.setups import open_setup

    setup = open_setup(trial.data, trial.network, trial.plain_epochs)
    samples, epochs = len(ShardSet(splits.train)), trial.entry.epochs
    run = Run(samples, setup.recipe.batch_size, setup.image_size, setup.network.stride, epochs, drop_last=True)
    budgets = [trial.entry.policy.budget(run, epoch) for epoch in range(epochs)]
    others = "name the other entries with --only"
    if setup.network.attends and any(budget and budget.canvas_size < run.image_size for budget in budgets):
        raise MixloaderError(
            f"{trial.entry.name}: {trial.network} takes canvases of {run.image_size} pixels only: {others}"
        )
    if trial.entry.isolate and not setup.network.attends:
        raise MixloaderError(f"{trial.entry.name}: {trial.network} has no attention to isolate: {others}")


def run_trial(trial: Trial, splits: Splits, threads: int) -> dict[str, Any]:
    """Train and test.

    Args:
        trial: what to run.
        splits: the shards of its data set.
        threads: of torch, and of the loader.

    Returns:
        The trial's key, and: `accuracy` per cent, `cost` relative to plain training, `passes`, `seconds` of training
        with loader and controller, `loss` of the last epoch, None with CutMix, and the `threads` and version of
        `torch` it ran on.
    """
    import torch

    from mixloader.loader import MixLoader
    from mixloader.shards import ShardSet
    from mixloader.tools.bench.methods.setups import open_setup
    from mixloader.tools.training import accuracy, train

    torch.set_num_threads(threads)
    setup = open_setup(trial.data, trial.network, trial.plain_epochs)
    recipe = replace(
        setup.recipe,
        epochs=trial.entry.epochs,
        rate=setup.recipe.rate if trial.rate is None else trial.rate,
        cutmix=trial.entry.cutmix,
    )
    common: dict[str, Any] = {
        "stride": setup.network.stride,
        "mean": setup.data.mean,
        "std": setup.data.std,
        "device": trial.device,
        "threads": threads,
    }
    train_set = ShardSet(splits.train)
    torch.manual_seed(trial.seed)
    model = close_borders(setup.network.build(len(train_set.classes), trial.entry.isolate), trial.entry.border)
    model.to(device=trial.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with MixLoader(
        train_set,
        recipe.batch_size,
        setup.image_size,
        policy=trial.entry.policy,
        epochs=recipe.epochs,
        seed=trial.seed,
        augment=setup.data.augment,
        drop_last=True,
        region_map=trial.entry.split,
        **common,
    ) as loader:
        history = train(model, loader, recipe)
        plain = trial.plain_epochs * len(loader) * recipe.batch_size
    with MixLoader(
        ShardSet(getattr(splits, trial.tested_on)), 500, setup.image_size, augment=None, shuffle=False, **common
    ) as test:
        right = accuracy(model, test)
    passes = sum(epoch.cost for epoch in history)
    return {
        **trial.key(),
        "accuracy": right,
        "cost": passes / plain,
        "passes": passes,
        "seconds": sum(epoch.seconds for epoch in history),
        "loss": None if math.isnan(history[-1].loss) else history[-1].loss,  # JSON has no NaN
        "threads": threads,
        "torch": torch.__version__,
    }
