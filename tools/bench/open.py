"""`mixloader bench open`: how long it takes to open a set of shards, small and large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

_IMAGE_BYTES = 110_000
_MEMBER_BYTES = 512 + -(-_IMAGE_BYTES // 512) * 512  # with its tar header, which nobody wrote
_CLASSES = 1000


def bench_open(
    samples: Annotated[
        str, typer.Option(help="Numbers of samples to compare, the smallest first.")
    ] = "10_000,1_000_000",
    per_shard: Annotated[
        int | None,
        typer.Option(help="Samples of a shard, where there are several.", show_default="as `mixloader shard`", min=1),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Openings of each set, in turns.", min=1)] = 101,
    out: Annotated[Path | None, typer.Option(help="A folder for results.json and table.md.")] = None,
) -> None:
    """Open sets of made-up samples, and make a loader of each, in one process, taking turns.

    The index and the manifest are those of `mixloader shard`; shards are sparse files of the size that photographs
    would have. Each size comes as one shard and as many: opening compares every shard's size with the manifest. The
    loader's constructor opens the set, and reads all labels and image sizes beside.
    """
    import json
    import os
    import tempfile

    from mixloader.tools.bench.machine import describe_machine
    from mixloader.tools.bench.plan import read_counts
    from mixloader.tools.console import OUTPUT
    from mixloader.tools.files import prepare_file
    from mixloader.tools.sharding.writer import ShardOptions

    per_shard = per_shard or ShardOptions().shard_size
    sizes = read_counts("--samples", samples)
    for name in ("results.json", "table.md") if out else ():
        prepare_file(out / name)  # type: ignore[operator]  # not None here
    load = {"before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder:
        results = [_race(Path(folder) / str(parts), sizes, parts, rounds) for parts in (max(sizes), per_shard)]
    load["after"] = os.getloadavg()
    table = _table(results)
    OUTPUT.print(table)
    if out is not None:
        text = json.dumps({**describe_machine(), "rounds": rounds, "load_average": load, "results": results}, indent=2)
        (out / "results.json").write_text(text + "\n")
        (out / "table.md").write_text(table)
        OUTPUT.print(f"written to {out}")


def _race(folder: Path, sizes: Sequence[int], per_shard: int, rounds: int) -> dict[str, Any]:
    """Open each of the sets so often, then make a loader of each."""
    for size in sizes:
        _write_set(folder / str(size), size, per_shard)
    folders = [folder / str(size) for size in sizes]
    # One after the other: a loader of a large set leaves the caches cold, and whatever is opened next would pay for it.
    opened, made = _in_turns(_open, folders, rounds), _in_turns(_make_loader, folders, rounds)
    sets = [
        {"samples": size, "seconds": of_set, "loader_seconds": of_loader}
        for size, of_set, of_loader in zip(sizes, opened, made, strict=True)
    ]
    return {"per_shard": per_shard, "sets": sets}


def _in_turns(measure: Callable[[Path], float], folders: Sequence[Path], rounds: int) -> list[list[float]]:
    """The seconds of each, in turns, after once that does not count."""
    turns = [[measure(folder) for folder in folders] for _ in range(rounds + 1)]
    return [list(times) for times in zip(*turns[1:], strict=True)]


def _open(folder: Path) -> float:
    import time

    from mixloader.shards import ShardSet

    start = time.perf_counter()
    ShardSet(folder)
    return time.perf_counter() - start


def _make_loader(folder: Path) -> float:
    import time

    from mixloader.loader import MixLoader

    start = time.perf_counter()
    loader = MixLoader(folder, batch_size=256, image_size=224, epochs=90)
    took = time.perf_counter() - start
    loader.close()
    return took


def _write_set(folder: Path, samples: int, per_shard: int) -> None:
    """Manifest, index and sparse shards of a set of photographs that nobody has."""
    import numpy as np

    from mixloader.shards.index import MANIFEST, Manifest, Shard, row_dtype, write_rows

    folder.mkdir(parents=True)
    rows, ids = np.zeros(samples, row_dtype(9)), np.arange(samples)
    rows["shard"], rows["offset"] = ids // per_shard, ids % per_shard * _MEMBER_BYTES + 512
    rows["size"], rows["label"], rows["width"], rows["height"] = _IMAGE_BYTES, ids % _CLASSES, 500, 375
    rows["key"] = ids.astype("S9")
    shards = []
    for number, count in enumerate(np.bincount(rows["shard"]).tolist()):
        path = folder / f"shard-{number:06d}.tar"
        with path.open("wb") as file:
            file.truncate(count * _MEMBER_BYTES)
        shards.append(Shard(path.name, count * _MEMBER_BYTES, count, sha256="0" * 64))
    classes = tuple(f"class {label}" for label in range(_CLASSES))
    (folder / MANIFEST).write_bytes(Manifest(classes, tuple(shards), made_from="nothing").to_json())
    write_rows(folder, rows)


def _table(results: Sequence[dict[str, Any]]) -> str:
    from statistics import median

    from mixloader.tools.bench.table import markdown_table

    lines = []
    for result in results:
        first = median(result["sets"][0]["seconds"])
        for one in result["sets"]:
            middle, loader = median(one["seconds"]), median(one["loader_seconds"])
            counts = (f"{one['samples']:,}", f"{-(-one['samples'] // result['per_shard']):,}")
            lines.append((*counts, f"{1000 * middle:.2f} ms", f"{middle / first:.2f}", f"{1000 * loader:.2f} ms"))
    header = ("samples", "shards", "ShardSet", "to the first", "MixLoader, with the set")
    return markdown_table("Opening a set of shards, and making a loader: medians", header, lines)
