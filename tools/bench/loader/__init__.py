"""`mixloader bench loader`: composites a second beside other loaders that deliver the same canvases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mixloader.tools.bench.loader.race import Cell


def bench_loader(
    images: Annotated[
        Path | None,
        typer.Argument(help="A folder of JPEGs in class folders.", show_default="photographs of Debian's opencv-doc"),
    ] = None,
    plans: Annotated[str, typer.Option(help="What is drawn: of shared, scaled, fours, whole.")] = "shared,fours,whole",
    threads: Annotated[
        str | None,
        typer.Option(
            help="Numbers of threads, and of processor cores, to compare on.", show_default="1,2 as far as there are"
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only contestants whose names hold one of these, a;b;c; =a is a itself.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measurements of each contestant, in turns.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Length of a measurement.", min=0.01)] = 5.0,
    image_size: Annotated[int, typer.Option(help="Side of a canvas, pixels.", min=1)] = 224,
    epoch: Annotated[int, typer.Option(help="Images of an epoch, at least: they are repeated.", min=1)] = 7168,
    environment: Annotated[Path, typer.Option(help="The rivals', made by `make bench-env`.")] = Path(".bench-env"),
    data: Annotated[Path, typer.Option(help="Where the photographs are, or are put.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="A folder for results.json, table.md and chart.png.")] = None,
    chart: Annotated[bool, typer.Option(help="Draw the chart.")] = True,
) -> None:
    """Compare MixLoader with the field's loaders, and with decoding and resizing alone.

    Every contestant draws the same plan from the same JPEGs, in a process of its own, on the same cores; they take
    turns. Before that, each must deliver the same first batch: one that does not, dies or cannot be imported is named
    with the reason and gets no figures. Those that deliver other pixels say so.
    """
    import os
    import tempfile

    from mixloader.tools.bench.loader.contestants import choose
    from mixloader.tools.bench.loader.data import open_pictures
    from mixloader.tools.bench.loader.process import SETTINGS, ends_as_interrupts
    from mixloader.tools.bench.loader.report import write_up
    from mixloader.tools.console import ERRORS, OUTPUT

    counts, names, contestants = _thread_counts(threads), _plan_names(plans), choose(only)
    if out is not None:
        _prepare(out, chart)
    load_before = os.getloadavg()
    with ends_as_interrupts(), tempfile.TemporaryDirectory() as temporary:
        source, words = open_pictures(images, data, Path(temporary) / "images", ERRORS.print)
        ERRORS.print(f"data: {words}")
        stage = _set_up(Path(temporary) / "race", environment, source, epoch, contestants)
        cells = _run(stage, names, counts, contestants, image_size, (rounds, seconds))
    said = write_up(cells, words)
    OUTPUT.print(said)
    if out is not None:
        settings = {"data": words, "image_size": image_size, "seconds": seconds, "rounds": rounds}
        settings["environment"] = SETTINGS
        load = {"before": load_before, "after": os.getloadavg()}
        _write(out, _result(cells, environment, {"load_average": load, **settings}), said, cells if chart else None)
        OUTPUT.print(f"written to {out}")


def _prepare(out: Path, chart: bool) -> None:
    """Find out before a long run that a file cannot be written, or that there is no matplotlib."""
    from mixloader.tools.files import prepare_file

    for name in ("results.json", "table.md", "chart.png"):
        prepare_file(out / name)
    if chart:
        import mixloader.tools.charts  # noqa: F401  (it says what is missing)


def _write(out: Path, result: dict[str, Any], said: str, cells: list[Cell] | None) -> None:
    import json

    (out / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    (out / "table.md").write_text(said)
    if cells is not None:
        from mixloader.tools.bench.loader.chart import draw_chart

        draw_chart(cells, out / "chart.png")


def _set_up(folder: Path, environment: Path, source: Any, epoch: int, contestants: Any) -> Any:
    from mixloader.tools.bench.loader.data import Folders
    from mixloader.tools.bench.loader.prepare import Stage
    from mixloader.tools.console import ERRORS

    stage = Stage(Folders(folder), environment)
    stage.set_up(source, epoch, contestants, ERRORS.print)
    return stage


def _run(
    stage: Any, names: list[str], counts: list[int], contestants: Any, image_size: int, turns: tuple[int, float]
) -> list[Cell]:
    import shutil

    from mixloader.tools.bench.loader.race import run_cell
    from mixloader.tools.console import ERRORS

    cells = []
    for name in names:
        plan = stage.add_plan(name, image_size, counts, contestants)
        for count in counts:
            starts = [stage.start(contestant, name, count) for contestant in contestants]
            cells.append(run_cell(plan, stage.shards, count, starts, *turns, ERRORS.print))
        shutil.rmtree(stage.folders.stream(name), ignore_errors=True)  # as large as the images, several times
    return cells


def _result(cells: list[Cell], environment: Path, settings: dict[str, Any]) -> dict[str, Any]:
    from mixloader.tools.bench.loader.prepare import rival_versions
    from mixloader.tools.bench.machine import describe_machine

    rivals = {"rivals": rival_versions(environment)}
    return {**describe_machine(), **rivals, **settings, "results": [cell.summary() for cell in cells]}


def _plan_names(plans: str) -> list[str]:
    from mixloader.errors import MixloaderError
    from mixloader.tools.bench.loader.plans import PLANS

    names = [name.strip() for name in plans.split(",")]
    if not set(names) <= PLANS.keys():
        raise MixloaderError(f"--plans={plans}: give some of {','.join(PLANS)}")
    return list(dict.fromkeys(names))


def _thread_counts(threads: str | None) -> list[int]:
    import os

    from mixloader.errors import MixloaderError

    cores = len(os.sched_getaffinity(0))
    if threads is None:
        return [1, 2][:cores]
    try:
        counts = [int(count) for count in threads.split(",")]
    except ValueError:
        counts = [0]
    if not all(1 <= count <= cores for count in counts):
        raise MixloaderError(
            f"--threads={threads}: give numbers from 1 to {cores}, the cores here, with commas between"
        )
    return list(dict.fromkeys(counts))
