"""`mixloader bench loader`: composites a second, beside a DataLoader with Pillow that draws the same plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mixloader.shards import ShardSet
    from mixloader.tools.bench.race import Race

PHOTOGRAPHS = 512


def bench_loader(
    shards: Annotated[
        Path | None, typer.Argument(help="A folder of shards.", show_default=f"{PHOTOGRAPHS} made-up photographs")
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(
            help="Numbers of threads, and of processor cores, to compare on.", show_default="1,2 as far as there are"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measurements of each loader, in turns.", min=1)] = 5,
    seconds: Annotated[float, typer.Option(help="Length of a measurement.", min=0.01)] = 5.0,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the result.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of a canvas, pixels.", min=1)] = 224,
) -> None:
    """Compare MixLoader (DALI, CPU) with a DataLoader that draws the same canvases with Pillow.

    Both draw the same plan from the same JPEGs on the same cores: MixLoader with so many threads, the DataLoader with
    as many worker processes. They take turns; before that, both must deliver the same picture. The plan is one of
    MixTrain's middle epochs, with 1.75 images a canvas.
    """
    import json
    import os

    from mixloader.tools.bench.machine import describe_machine
    from mixloader.tools.bench.race import run_race
    from mixloader.tools.console import ERRORS, OUTPUT
    from mixloader.tools.files import prepare_file

    counts = _thread_counts(threads)
    if out is not None:
        prepare_file(out)
    load_before = os.getloadavg()
    with _open(shards) as (opened, data):
        OUTPUT.print(f"data: {data}")
        races = [run_race(opened, count, rounds, seconds, image_size, ERRORS.print) for count in counts]
    OUTPUT.print(_table(races))
    result = {
        **describe_machine(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "data": data,
        "image_size": image_size,
        "seconds": seconds,
        "results": [race.summary() for race in races],
    }
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n")
        OUTPUT.print(f"written to {out}")


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
    return counts


@contextmanager
def _open(folder: Path | None) -> Iterator[tuple[ShardSet, str]]:
    """The shards, and what they hold in words; made-up photographs live as long as the context."""
    import tempfile

    from mixloader.shards import ShardSet
    from mixloader.tools.bench.photographs import HEIGHT, WIDTH, write_photographs
    from mixloader.tools.sharding.folder import FolderSource
    from mixloader.tools.sharding.writer import ShardOptions, write_shards

    if folder is not None:
        shards = ShardSet(folder)
        yield shards, f"{len(shards):,} images of {folder.name}, {_kilobytes(shards):.0f} kB each"
        return
    with tempfile.TemporaryDirectory() as temporary:
        images, made = Path(temporary) / "images", Path(temporary) / "shards"
        write_photographs(images, PHOTOGRAPHS)
        write_shards(FolderSource(images), made, options=ShardOptions())
        shards = ShardSet(made)
        size = f"{WIDTH} x {HEIGHT} pixels, {_kilobytes(shards):.0f} kB each"
        yield shards, f"{PHOTOGRAPHS} made-up photographs, JPEG, {size}"


def _kilobytes(shards: ShardSet) -> float:
    """Mean size of the encoded images, of up to 1000 of them."""
    ids = range(0, len(shards), -(-len(shards) // 1000))
    return sum(len(shards[i].data) for i in ids) / len(ids) / 1e3


def _table(races: list[Race]) -> object:
    from rich.table import Table

    table = Table("threads", "loader", "composites/s", "images/s", "ratio: median (min to max)")
    for column in table.columns[2:]:
        column.justify = "right"
    for race in races:
        least, median, most = race.ratios()
        notes = (f"{median:.2f} ({least:.2f} to {most:.2f})", "1")
        for threads, name, note in zip((str(race.threads), ""), race.rates, notes, strict=True):
            rate = race.median(name)
            images = rate * race.images_per_canvas
            table.add_row(threads, name, f"{rate:,.0f}", f"{images:,.0f}", note, end_section=not threads)
    return table
