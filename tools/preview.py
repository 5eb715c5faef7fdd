"""`mixloader preview`: what a plan draws, as one picture."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

if TYPE_CHECKING:
    from mixloader.controller import Controller
    from mixloader.ledger import LossLedger
    from mixloader.plan import Plan
    from mixloader.policies import Policy
    from mixloader.policies.policy import Run
    from mixloader.shards import ShardSet

PolicyName = Literal["mixtrain", "pairs", "whole", "naive", "blend", "progressive", "packed", "infobatch"]


def preview(
    shards: Annotated[Path, typer.Argument(help="A folder of shards.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
    plan: Annotated[Path | None, typer.Option(help="A saved plan, instead of one that --policy makes.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="A saved ledger: its losses are shown, and decide.")] = None,
    policy: Annotated[
        PolicyName | None,
        typer.Option(help="Who shares; pairs: MixTrain whose easier ones share.", show_default="mixtrain"),
    ] = None,
    speedup: Annotated[float, typer.Option(help="Budget of mixtrain and pairs: plain passes / theirs.")] = 1.8,
    epochs: Annotated[int, typer.Option(help="Length of the run.", min=1)] = 90,
    epoch: Annotated[
        int | None, typer.Option(help="Counted from 0.", min=0, show_default="the middle one of the cheap ones")
    ] = None,
    image_size: Annotated[int, typer.Option(help="Side of a whole canvas, pixels.", min=1)] = 224,
    stride: Annotated[int, typer.Option(help="Region borders are multiples of it, pixels.", min=1)] = 32,
    batch_size: Annotated[int, typer.Option(help="Samples of a step.", min=1)] = 64,
    count: Annotated[int, typer.Option(help="The most canvases that are shown.", min=1)] = 12,
    seed: Annotated[int, typer.Option(help="Of every random choice.", min=0)] = 0,
) -> None:
    """Draw composites of each kind in a plan on one picture: who shares a canvas, with how much of it, at which loss.

    Shows a saved plan, or the one that a policy makes for an epoch. Needs no DALI and no GPU.
    """
    from mixloader.errors import MixloaderError
    from mixloader.ledger import LossLedger
    from mixloader.plan import Plan
    from mixloader.policies.policy import Run
    from mixloader.shards import ShardSet
    from mixloader.tools.console import OUTPUT
    from mixloader.tools.files import prepare_file
    from mixloader.tools.sheet.contact_sheet import draw_contact_sheet

    opened = ShardSet(shards)
    if plan is not None and policy is not None:
        raise MixloaderError(f"--plan={plan} is drawn as it was saved; --policy={policy} makes another one: give one")
    losses = LossLedger(len(opened), fingerprint=opened.fingerprint)
    if ledger is not None:
        losses.load(ledger)
    if plan is not None:
        shown, made_by = Plan.load(plan), plan.name
    else:
        run = Run(len(opened), min(batch_size, len(opened)), image_size, stride, epochs)
        shown, made_by = _make(opened, losses, run, _policy(policy or "mixtrain", speedup), epoch, seed)
    prepare_file(out)
    folder = shards.resolve()
    sheet = draw_contact_sheet(
        opened,
        shown,
        losses=losses.snapshot() if ledger is not None else None,
        title=f"{folder.parent.name}/{folder.name}, {made_by}",
        count=count,
    )
    sheet.save(out, "PNG")
    OUTPUT.print(f"{out}: {sheet.width} x {sheet.height} pixels, {made_by}")


def _make(
    shards: ShardSet, ledger: LossLedger, run: Run, policy: Policy, epoch: int | None, seed: int
) -> tuple[Plan, str]:
    """The plan of an epoch, and what it is."""
    from mixloader.controller import Controller

    epochs = run.length(policy)
    controller = Controller(policy, run, shards.sizes, ledger, seed=seed)
    chosen = _middle(controller) if epoch is None else epoch
    stock = type(policy)()
    parameters = ", ".join(
        f"{field.name}={getattr(policy, field.name)!r}"
        for field in fields(cast(Any, policy))
        if field.name == "speedup"
        or (getattr(policy, field.name) != getattr(stock, field.name) and not is_dataclass(getattr(stock, field.name)))
    )
    name = type(policy).__name__ + (f"({parameters})" if parameters else "")
    return controller.plan(chosen, ledger.snapshot()).whole(), f"{name}, epoch {chosen} (of 0 to {epochs - 1})"


def _middle(controller: Controller) -> int:
    """The middle one of the epochs with fewer canvases than samples, else of the cheap ones, else of all."""
    run = controller.run
    epochs = range(run.epochs or 1)
    budgets = [controller.budget(epoch) for epoch in epochs]
    unknown = [epoch for epoch in epochs if budgets[epoch] is None]
    fewer = [e for e, b in enumerate(budgets) if b and b.canvases < run.batch_size]
    small = [e for e, b in enumerate(budgets) if b and b.canvas_size < run.image_size]
    best = fewer or small or unknown or epochs
    return best[len(best) // 2]


def _policy(name: PolicyName, speedup: float) -> Policy:
    from mixloader.policies import InfoBatch, Ladder, MixTrain, Naive, Progressive, Resolution, Whole

    if name == "mixtrain":
        return MixTrain(speedup=speedup)
    if name == "pairs":
        return MixTrain(
            speedup=speedup, selection=1.0, resolution=Resolution(side=1.0), ladder=Ladder(drop=0.0, half=1.0)
        )
    others: dict[str, Policy] = {
        "whole": Whole(),
        "naive": Naive(),
        "blend": Naive(mixing="blend"),
        "progressive": Progressive(),
        "packed": Progressive(packed=True),
        "infobatch": InfoBatch(),
    }
    return others[name]
