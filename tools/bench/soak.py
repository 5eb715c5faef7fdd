"""`mixloader bench soak`: many epochs in one process: does memory stay flat, is anything left behind?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mixloader.policies import Policy
    from mixloader.tools.bench.soak_run import Epoch

_MOST_GROWTH = 20.0  # MB
_PIPELINES = ("cpu", "dali", "pillow")


def bench_soak(
    shards: Annotated[
        Path | None, typer.Argument(help="A folder of shards.", show_default="photographs of Debian's opencv-doc")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Epochs in one process.", min=4)] = 20,
    batch_size: Annotated[int, typer.Option(help="Samples of a step.", min=1)] = 64,
    image_size: Annotated[int, typer.Option(help="Side of a whole canvas, pixels.", min=32)] = 224,
    policy: Annotated[str, typer.Option(help="mixtrain, naive or whole.")] = "mixtrain",
    speedup: Annotated[float, typer.Option(help="MixTrain's: plain passes / its passes.")] = 1.8,
    pipeline: Annotated[str, typer.Option(help="cpu, dali or pillow.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Decoding threads.", show_default="all cores", min=1)] = None,
    images: Annotated[int, typer.Option(help="Photographs of an epoch, at least: they are repeated.", min=1)] = 915,
    data: Annotated[Path, typer.Option(help="Where the photographs are, or are put.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="A folder for results.json and table.md.")] = None,
) -> None:
    """Iterate over many epochs, and note after each what the process holds: memory, threads and files.

    The largest canvases of the run come first, as a warm-up: MixTrain's grow, and what their buffers take is no leak.
    Then a loader is closed, and another one dropped in the middle of an epoch. Ends with status 1 where memory grew by
    20 MB or more after the second epoch, or a thread or a file is left.
    """
    import json
    import os
    import tempfile

    from mixloader.tools.bench.machine import describe_machine
    from mixloader.tools.bench.soak_run import Soak
    from mixloader.tools.console import OUTPUT
    from mixloader.tools.files import prepare_file

    made = _check(policy, speedup, pipeline)
    for name in ("results.json", "table.md") if out else ():
        prepare_file(out / name)  # type: ignore[operator]  # not None here
    load = {"before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as temporary:
        folder, words = (shards, shards.name) if shards else _write_shards(data, images, Path(temporary))
        soak = Soak(folder, batch_size, image_size, made, epochs, pipeline, threads)  # type: ignore[arg-type]
        rows = soak.run()
        left = {"closed": soak.left_by_closing(), "dropped": soak.left_by_dropping()}
    load["after"] = os.getloadavg()
    result = _result(rows, left)
    title = f"{epochs} epochs of {words}: policy {policy}, batches of {batch_size}, pipeline {pipeline}"
    text = f"{_table(title, rows)}\n{_verdict(result)}\n"
    OUTPUT.print(text)
    if out is not None:
        settings = {"data": words, "batch_size": batch_size, "image_size": image_size, "policy": str(made)}
        settings |= {"pipeline": pipeline, "threads": threads, "load_average": load}
        (out / "results.json").write_text(json.dumps({**describe_machine(), **settings, **result}, indent=2) + "\n")
        (out / "table.md").write_text(text)
        OUTPUT.print(f"written to {out}")
    if not result["passed"]:
        raise typer.Exit(1)


def _check(policy: str, speedup: float, pipeline: str) -> Policy:
    """The policy of that name.

    Raises:
        MixloaderError: there is none, or no such pipeline.
    """
    from mixloader.errors import MixloaderError
    from mixloader.policies import MixTrain, Naive, Whole

    policies: dict[str, Policy] = {"mixtrain": MixTrain(speedup), "naive": Naive(), "whole": Whole()}
    for option, word, known in (("--policy", policy, policies), ("--pipeline", pipeline, _PIPELINES)):
        if word not in known:
            raise MixloaderError(f"{option}={word}: it is one of {', '.join(known)}")
    return policies[policy]


def _write_shards(data: Path, images: int, folder: Path) -> tuple[Path, str]:
    """Write photographs into shards, and say what they are."""
    from mixloader.tools.bench.loader.data import Repeated, open_pictures, write_set
    from mixloader.tools.console import ERRORS

    source, words = open_pictures(None, data, folder / "images", ERRORS.print)
    times = -(-images // len(source))
    write_set("plain", Repeated(source, times), folder / "shards")
    return folder / "shards", words if times == 1 else f"{words}, {times} times each"


def _result(rows: Sequence[Epoch], left: dict[str, list[str]]) -> dict[str, Any]:
    from mixloader.tools.bench.soak_run import drifts, growth

    grown = growth(rows)
    noted = [
        {
            "epoch": row.name,
            "canvas_size": row.canvas_size,
            "canvases": row.canvases,
            "seconds": row.seconds,
            "resident": row.held.resident,
            "threads": len(row.held.threads),
            "files": len(row.held.files),
        }
        for row in rows
    ]
    return {
        "passed": grown < _MOST_GROWTH and not any(left.values()),
        "growth_mb": grown,
        "drift_mb": drifts(rows),
        "left": left,
        "epochs": noted,
    }


def _table(title: str, rows: Sequence[Epoch]) -> str:
    from mixloader.tools.bench.table import markdown_table

    header = ("epoch", "canvas", "canvases", "seconds", "resident", "threads", "files")
    lines = [
        (
            row.name,
            f"{row.canvas_size} px",
            f"{row.canvases}",
            f"{row.seconds:.1f}",
            f"{row.held.resident / 1e6:.1f} MB",
            f"{len(row.held.threads)}",
            f"{len(row.held.files)}",
        )
        for row in rows
    ]
    return markdown_table(title, header, lines)


_NOTE = (
    "Growth is the most that was resident after a later epoch, less the most after the warm-up and the first two. The "
    "warm-up is an epoch of the largest canvases of the run: what memory for these takes is no growth."
)


def _verdict(result: dict[str, Any]) -> str:
    """What was measured, and the bars, for people."""
    drift = ", ".join(f"{mb:+.1f} MB at {side} px" for side, mb in result["drift_mb"].items()) or "no side came twice"
    return (
        f"{_NOTE}\n\n"
        f"- growth after the second epoch: {result['growth_mb']:+.1f} MB (bar: under {_MOST_GROWTH:g} MB)\n"
        f"- from the first to the last of the later epochs of each canvas side: {drift}\n"
        f"- left by a loader that was closed: {', '.join(result['left']['closed']) or 'nothing'}\n"
        f"- left by one that was dropped in an epoch: {', '.join(result['left']['dropped']) or 'nothing'}\n"
        f"- {'passed' if result['passed'] else 'missed'}"
    )
