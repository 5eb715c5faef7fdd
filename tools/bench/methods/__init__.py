"""`mixloader bench methods`: accuracy against cost, of every policy, on one data set and network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mixloader.tools.bench.methods.journal import Journal
    from mixloader.tools.bench.methods.setups import Setup
    from mixloader.tools.bench.methods.trial import Trial


def bench_methods(
    data: Annotated[str, typer.Option(help="fashion-mnist or wesnoth.")] = "fashion-mnist",
    network: Annotated[str, typer.Option(help="resnet, mobilenet, vit, or one of torchvision.models.")] = "resnet",
    contest: Annotated[str, typer.Option(help="rivals, ablation or interference.")] = "rivals",
    only: Annotated[str | None, typer.Option(help="Only the entries whose names hold one of these, a;b;c.")] = None,
    costs: Annotated[str, typer.Option(help="Passes relative to plain training, a,b,c.")] = "0.625,0.5556,0.5",
    seeds: Annotated[str, typer.Option(help="Of networks and plans, a,b,c.")] = "0,1,2",
    epochs: Annotated[int, typer.Option(help="Of plain training.", min=2)] = 16,
    split: Annotated[str, typer.Option(help="validation, to choose by; test, to report once.")] = "validation",
    folder: Annotated[Path, typer.Option(help="Where the data is, or is put.")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Where runs.jsonl, and the contest's table and plot, are written.")] = Path(
        "runs/methods"
    ),
    jobs: Annotated[int, typer.Option(help="Runs at once, one thread each; 1 has all threads.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rate: Annotated[
        float | None, typer.Option(help="Highest learning rate.", show_default="what was tuned for plain training")
    ] = None,
) -> None:
    """Train a grid of policies, costs and seeds, and show accuracy and wall time beside their cost.

    Every run is a line of runs.jsonl; a run that is there already is not run again, so a stopped benchmark goes on
    when repeated, and one with more seeds or entries adds to it. Seeds are the outer loop: each has its plain run.
    """
    from mixloader.tools.bench.methods.contests import enter
    from mixloader.tools.bench.methods.journal import Journal
    from mixloader.tools.bench.methods.pareto import draw_pareto
    from mixloader.tools.bench.methods.scoreboard import score_runs, write_markdown
    from mixloader.tools.bench.methods.setups import open_setup
    from mixloader.tools.console import OUTPUT
    from mixloader.tools.files import prepare_file

    prepare_file(out / "runs.jsonl")
    setup = open_setup(data, network, epochs)
    shares = _numbers("--costs", costs, float)
    everyone = enter(contest, shares, epochs, ours=setup.mixtrain)
    chosen = enter(contest, shares, epochs, ours=setup.mixtrain, only=only.split(";") if only else None)
    trials = [
        _trial(data, network, epochs, entry, seed, split, device, rate)
        for seed in _numbers("--seeds", seeds, int)
        for entry in everyone
    ]
    journal = Journal(out / "runs.jsonl")
    _run_missing([trial for trial in trials if trial.entry in chosen], setup, folder, journal, jobs)
    # Of the whole contest, what the journal has: --only adds to the table and takes nothing away.
    runs = [run for run in (journal.find(trial.key()) for trial in trials) if run is not None]
    rows = score_runs(runs)
    title = f"{setup.data.title}, {network}, {epochs} epochs, {split} accuracy"
    (out / f"{contest}.md").write_text(f"{title}\n\n{write_markdown(rows)}")
    draw_pareto(rows, title, out / f"{contest}.png")
    OUTPUT.print(write_markdown(rows))
    OUTPUT.print(f"written to {out}: runs.jsonl, {contest}.md, {contest}.png")


def _trial(
    data: str, network: str, epochs: int, entry: Any, seed: int, split: str, device: str, rate: float | None
) -> Trial:
    from mixloader.errors import MixloaderError
    from mixloader.tools.bench.methods.trial import Trial

    if split not in ("validation", "test"):
        raise MixloaderError(f"--split {split}: it is validation or test")
    return Trial(data, network, epochs, entry, seed, split, device, rate)  # type: ignore[arg-type]  # checked above


def _run_missing(trials: list[Trial], setup: Setup, folder: Path, journal: Journal, jobs: int) -> None:
    """Run the trials that the journal lacks; each is written to it when it is done."""
    from mixloader.tools.bench.methods.trial import check_trial
    from mixloader.tools.bench.methods.workers import run_all
    from mixloader.tools.console import progress_bar

    missing = [trial for trial in trials if journal.find(trial.key()) is None]
    if missing:
        splits = setup.data.prepare(folder)
        for trial in missing:
            check_trial(trial, splits)
        with progress_bar() as bar:
            task = bar.add_task("runs", total=len(missing))
            for result in run_all(missing, splits, jobs):
                journal.append(result)
                bar.advance(task)


def _numbers(option: str, text: str, kind: type[Any]) -> list[Any]:
    from mixloader.errors import MixloaderError

    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        raise MixloaderError(f"{option} {text}: give numbers with commas between") from None
    if not all(number >= 0 for number in numbers) or len(set(numbers)) < len(numbers):
        raise MixloaderError(f"{option} {text}: give different numbers of at least 0")
    return numbers
