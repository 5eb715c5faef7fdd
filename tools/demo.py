"""`mixloader demo`: train plain and with MixTrain on the same schedule, and show both beside each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from mixloader.ledger import Losses
    from mixloader.loader import MixLoader
    from mixloader.plan import Plan
    from mixloader.policies import Policy
    from mixloader.shards import ShardSet
    from mixloader.tools.training import Epoch

BATCH_SIZE = 128
STRIDE = 4  # of the small network: two strides of 2


@dataclass(frozen=True)
class Outcome:
    """One finished run.

    Attributes:
        policy: class name.
        parameters: the policy's own.
        accuracy: on the test images, per cent.
        cost: whole-image passes / those of plain training.
        passes: whole-image passes.
        seconds: wall time of training, loader and controller included.
        epochs: number of epochs.
        history: each epoch.
    """

    policy: str
    parameters: dict[str, Any]
    accuracy: float
    cost: float
    passes: float
    seconds: float
    epochs: int
    history: list[Epoch]


@dataclass(frozen=True)
class Exhibit:
    """The plan with the fewest canvases, and the losses it was made from: what the preview shows."""

    epoch: int
    plan: Plan
    losses: Losses


def demo(
    data: Annotated[Path, typer.Option(help="Where Fashion-MNIST is, or is put.")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Where the results are written.")] = Path("runs/demo"),
    epochs: Annotated[int, typer.Option(help="Length of both runs.", min=2)] = 8,
    speedup: Annotated[float, typer.Option(help="MixTrain's budget: plain passes / its passes.")] = 1.6,
    seed: Annotated[int, typer.Option(help="Of the network and of every plan.", min=0)] = 0,
    shorter: Annotated[bool, typer.Option(help="Also train plain with as few epochs as MixTrain costs.")] = False,
) -> None:
    """Train a small network on Fashion-MNIST, plain and with MixTrain, and compare.

    Writes result.json, the losses and shares as curves.png, the plan and ledger of MixTrain's most selective
    epoch, and some of its canvases as preview.png.
    """
    from mixloader.policies import MixTrain, Resolution, Whole
    from mixloader.shards import ShardSet
    from mixloader.tools.charts import draw_curves
    from mixloader.tools.console import OUTPUT, progress_bar
    from mixloader.tools.files import prepare_file
    from mixloader.tools.sheet.contact_sheet import draw_contact_sheet

    prepare_file(out / "result.json")
    train_folder, test_folder = _make_shards(data)
    train_set, test_set = ShardSet(train_folder), ShardSet(test_folder)
    # Chosen on validation images of this data set: docs/results.md.
    ours = MixTrain(speedup=speedup, selection=0.75, resolution=Resolution(side=0.7))
    contest: list[tuple[Policy, int]] = [(Whole(), epochs), (ours, epochs)]
    if shorter:
        contest.append((Whole(), max(1, round(epochs / speedup))))
    loaders = [_open_loader(train_set, policy, length, seed) for policy, length in contest]  # may refuse the speedup
    plain = epochs * len(loaders[0]) * BATCH_SIZE
    outcomes, exhibits = [], []
    with progress_bar() as bar:
        for (policy, length), loader in zip(contest, loaders, strict=True):
            outcome, exhibit = _run(policy, loader, test_set, length, seed, plain, bar)
            outcomes.append(outcome)
            exhibits.append(exhibit)
    mixed, exhibit = outcomes[1], exhibits[1]
    _write_result(out / "result.json", outcomes, seed)
    draw_curves([asdict(outcome) for outcome in outcomes], asdict(mixed), out / "curves.png")
    exhibit.plan.save(out / "plan.npz")
    _save_losses(exhibit.losses, train_set.fingerprint, out / "ledger.npz")
    sheet = draw_contact_sheet(
        train_set,
        exhibit.plan,
        losses=exhibit.losses,
        title=f"Fashion-MNIST, MixTrain(speedup={speedup:g}, ...), epoch {exhibit.epoch + 1} of {epochs}",
        count=12,
    )
    sheet.save(out / "preview.png")
    OUTPUT.print(_table(outcomes))
    OUTPUT.print(f"written to {out}: result.json, curves.png, preview.png, plan.npz, ledger.npz")


def _make_shards(data: Path) -> tuple[Path, Path]:
    """Shard the training and the test images, where that is not done yet."""
    from mixloader.tools.datasets.dataset import write_folders
    from mixloader.tools.datasets.fashion_mnist import FASHION_CLASSES, fashion_mnist_folder
    from mixloader.tools.sharding.idx import IdxSource

    source = fashion_mnist_folder(data)
    splits = {split: IdxSource(source, split, FASHION_CLASSES) for split in ("train", "test")}
    train, test = write_folders(splits, data / "shards")
    return train, test


def _open_loader(train_set: ShardSet, policy: Policy, epochs: int, seed: int) -> MixLoader:
    from mixloader.loader import MixLoader
    from mixloader.tools.datasets.registry import fashion_mnist

    data = fashion_mnist()
    return MixLoader(
        train_set,
        BATCH_SIZE,
        int(train_set.sizes[0].max()),
        policy=policy,
        epochs=epochs,
        seed=seed,
        stride=STRIDE,
        augment=data.augment,
        mean=data.mean,
        std=data.std,
    )


def _run(
    policy: Policy, loader: MixLoader, test_set: ShardSet, epochs: int, seed: int, plain: int, bar: Progress
) -> tuple[Outcome, Exhibit]:
    """Train one network from the same start as the others, and test it once."""
    import torch

    from mixloader.loader import MixLoader
    from mixloader.split import split_model
    from mixloader.tools.datasets.registry import fashion_mnist
    from mixloader.tools.networks import small_resnet
    from mixloader.tools.training import Recipe, accuracy, train

    torch.manual_seed(seed)
    model = split_model(small_resnet(len(test_set.classes)))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    exhibits: list[Exhibit] = []
    losses = [loader.ledger.snapshot()]  # at the end of each epoch: what the next one's plan is made from

    def keep_most_selective(epoch: int) -> None:
        if not exhibits or loader.plan.canvases < exhibits[-1].plan.canvases:
            exhibits[:] = [Exhibit(epoch, loader.plan, losses[-1])]
        losses[:] = [loader.ledger.snapshot()]

    name = type(policy).__name__
    task = bar.add_task(f"{name}, {epochs} epochs", total=epochs * len(loader))
    history = train(model, loader, Recipe(epochs), lambda: bar.advance(task), keep_most_selective)
    loader.close()
    side = loader.plan.image_size
    data = fashion_mnist()
    test_loader = MixLoader(
        test_set, 500, side, stride=STRIDE, augment=None, shuffle=False, mean=data.mean, std=data.std
    )
    passes = sum(epoch.cost for epoch in history)
    outcome = Outcome(
        policy=name,
        parameters=asdict(policy),  # type: ignore[call-overload]  # every policy is a dataclass
        accuracy=accuracy(model, test_loader),
        cost=passes / plain,
        passes=passes,
        seconds=sum(epoch.seconds for epoch in history),
        epochs=epochs,
        history=history,
    )
    test_loader.close()
    return outcome, exhibits[0]


def _write_result(path: Path, outcomes: list[Outcome], seed: int) -> None:
    import os
    import platform

    import torch

    result = {
        "runs": [asdict(outcome) for outcome in outcomes],
        "data": "Fashion-MNIST",
        "seed": seed,
        "batch_size": BATCH_SIZE,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processors": len(os.sched_getaffinity(0)),
    }
    path.write_text(json.dumps(result, indent=2) + "\n")


def _save_losses(losses: Losses, fingerprint: str, path: Path) -> None:
    """Write the losses as the ledger that they were read from, as it was then."""
    from mixloader.ledger import LossLedger

    ledger = LossLedger(len(losses.loss), fingerprint=fingerprint)
    ledger.load_state_dict({"fingerprint": fingerprint, **losses.state_dict()})
    ledger.save(path)


def _table(outcomes: list[Outcome]) -> Any:
    from rich.table import Table

    table = Table(
        "", "accuracy %", "passes", "seconds", "passes / plain", "seconds / plain", title="Test accuracy and cost"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    plain = outcomes[0]
    for run in outcomes:
        table.add_row(
            f"{run.policy}, {run.epochs} epochs",
            f"{run.accuracy:.2f}",
            f"{run.passes:,.0f}",
            f"{run.seconds:.0f}",
            f"{run.cost:.3f}",
            f"{run.seconds / plain.seconds:.3f}",
        )
    return table
