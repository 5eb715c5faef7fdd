"""`mixloader bench plan`: what planning an epoch costs, beside sorting as many numbers, and how it grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mixloader.tools.bench.plan_costs import Question


def bench_plan(
    samples: Annotated[
        str, typer.Option(help="Numbers of samples, a,b,c; 1_280_000 is 1280000.")
    ] = "10_000,100_000,1_280_000,10_000_000",
    policy: Annotated[str, typer.Option(help="mixtrain, pairs, infobatch, naive or whole.")] = "mixtrain",
    batch_size: Annotated[int, typer.Option(help="Samples of a step, of all ranks together.", min=1)] = 256,
    ranks: Annotated[str, typer.Option(help="Numbers of ranks that share the drawing of rows, a,b,c.")] = "1,8",
    rounds: Annotated[int, typer.Option(help="Measurements, in turns with sorting.", min=1)] = 5,
    out: Annotated[Path | None, typer.Option(help="A folder for results.json and table.md.")] = None,
) -> None:
    """Measure allocating, dealing and drawing the rows of an epoch in the middle of a run.

    Losses, classes and image sizes are made up. Every size has a fresh process, in which it takes turns with
    `numpy.argsort` of as many random floats. Memory is the most that the process had, with ledger, classes, sizes and
    sorting: with one plan, and while the next one is made.
    """
    import json
    import os

    from mixloader.tools.bench.machine import describe_machine
    from mixloader.tools.bench.plan_costs import Question
    from mixloader.tools.console import ERRORS, OUTPUT
    from mixloader.tools.files import prepare_file

    sizes, shared = read_counts("--samples", samples), tuple(read_counts("--ranks", ranks))
    questions = [Question(size, batch_size, policy, shared, rounds) for size in sizes]
    for question in questions:
        question.check()
    for name in ("results.json", "table.md") if out else ():
        prepare_file(out / name)  # type: ignore[operator]  # not None here
    load, results = {"before": os.getloadavg()}, []
    for question in questions:
        ERRORS.print(f"{question.samples:,} samples")
        results.append(_measure_apart(question))
    load["after"] = os.getloadavg()
    table = _table(results, policy, batch_size)
    OUTPUT.print(f"{table}\n{NOTE}")
    if out is not None:
        settings = {"policy": policy, "batch_size": batch_size, "rounds": rounds, "load_average": load}
        text = json.dumps({**describe_machine(), **settings, "results": results}, indent=2)
        (out / "results.json").write_text(text + "\n")
        (out / "table.md").write_text(f"{table}\n{NOTE}\n")
        OUTPUT.print(f"written to {out}")


NOTE = (
    "Medians. Allocating includes the ledger's snapshot. `to sorting`: allocating and dealing, as times numpy.argsort "
    "of as many random float64 in the same process, least to most of the rounds. `again`: both once more at once, in "
    "the memory that was just freed, quickest round; `growth`: that, as times the row above's, for so many times the "
    "samples. Where a host takes back memory that lies idle, touching it again costs more than all the rest, and "
    "whether it does depends on the size. Rows are made during the epoch, a block of batches at a time; their time is "
    "extrapolated from 24 blocks at most. Memory: the most that the process had, with ledger, classes and image sizes "
    "(32 bytes a sample together), the floats sorted, and one plan. `next epoch`: that while the next one is planned, "
    "when the last plan is still held, as in a loader; `a sample` is a "
    "sample's part of it without what the imports took, and `growth` as above. Every rank allocates and deals in full; "
    "it draws its own rows alone."
)


def _measure_apart(question: Question) -> dict[str, Any]:
    """Measure in a fresh process.

    Raises:
        MixloaderError: it died.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    from mixloader.errors import MixloaderError
    from mixloader.tools.bench.plan_costs import measure

    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure, question).result()
    except (BrokenProcessPool, MemoryError):
        raise MixloaderError(
            f"the process that planned {question.samples:,} samples died, probably for want of memory: it needs about "
            f"{100 * question.samples / 1e9:.1f} GB"
        ) from None


def _table(results: Sequence[dict[str, Any]], policy: str, batch_size: int) -> str:
    from mixloader.tools.bench.table import markdown_table

    drawing = [
        f"rows, {'1 rank' if ranks == '1' else f'each of {ranks}'}"
        for ranks in results[0]["seconds"]["draw_an_epoch_extrapolated"]
    ]
    times = ("samples", "argsort", "allocate", "deal", "to sorting", "again", "growth", *drawing)
    header = (*times, "memory", "next epoch", "a sample", "growth")
    lines = [_line(result, before) for before, result in zip([None, *results], results, strict=False)]
    return markdown_table(f"An epoch of policy {policy}, batches of {batch_size}", header, lines)


def _line(result: dict[str, Any], before: dict[str, Any] | None) -> tuple[str, ...]:
    """One size; `before` is the one above."""
    from statistics import median

    seconds, ratios = result["seconds"], result["ratios"]
    samples, memory = result["samples"], _next_bytes(result)
    again, growth, grown = min(seconds["plan_again"]), "", ""
    if before is not None:
        times = f"for {samples / before['samples']:.1f}"
        growth = f"{again / min(before['seconds']['plan_again']):.1f} {times}"
        grown = f"{memory / max(1, _next_bytes(before)):.1f} {times}"
    return (
        f"{samples:,}",
        *(_duration(median(seconds[step])) for step in ("argsort", "allocate", "deal")),
        f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        _duration(again),
        growth,
        *(_duration(median(times)) for times in seconds["draw_an_epoch_extrapolated"].values()),
        f"{result['peak'] / 1e9:.2f} GB",
        f"{result['peak_next'] / 1e9:.2f} GB",
        f"{memory / samples:.0f} B",
        grown,
    )


def _next_bytes(result: dict[str, Any]) -> int:
    """Memory while the next epoch is planned, without what the imports took."""
    return int(result["peak_next"] - result["before"])


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def read_counts(option: str, text: str) -> list[int]:
    """The numbers in an option's text.

    Raises:
        MixloaderError: there is something else in it.
    """
    from mixloader.errors import MixloaderError

    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise MixloaderError(f"{option}={text}: give numbers of at least 1 with commas between")
    return list(dict.fromkeys(counts))
