"""`mixloader shard`: images into shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mixloader.tools.sharding.sources import Source
    from mixloader.tools.sharding.writer import ShardOptions, Summary

_SHOWN = 5  # skipped images named on the screen; the manifest names all


def shard(
    source: Annotated[
        str,
        typer.Argument(help="A folder of class folders, a folder of IDX files, or a torchvision data set."),
    ],
    dest: Annotated[Path, typer.Argument(help="The folder to write the shards to.")],
    split: Annotated[
        str | None,
        typer.Option(help="train or test, of IDX files or a torchvision data set.", show_default="train"),
    ] = None,
    max_size: Annotated[
        int | None, typer.Option(help="Shrink images whose longer side has more pixels.", min=1)
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Encode every image again, at this quality.", min=1, max=100)
    ] = None,
    levels: Annotated[
        int,
        typer.Option(
            help="Smaller JPEGs to store beside every image: 1 half, 2 a quarter too, 3 an eighth too.", min=0, max=3
        ),
    ] = 0,
    recode: Annotated[
        bool,
        typer.Option(
            "--recode",
            help="Encode JPEGs again at their own quality, with restart markers: windows decode faster on CPUs. Lossy.",
        ),
    ] = False,
    shard_size: Annotated[int, typer.Option(help="Images in one shard.", min=1)] = 5000,
    workers: Annotated[int | None, typer.Option(help="Threads.", min=1, show_default="one per processor")] = None,
    root: Annotated[Path, typer.Option(help="Where torchvision keeps its data sets.")] = Path("data"),
    classes: Annotated[str | None, typer.Option(help="Class names a,b,c where the source does not know them.")] = None,
) -> None:
    """Write images into shards: tar files of JPEG, PNG or WebP in WebDataset's layout, with an index.

    Files are copied byte for byte unless an option asks for more. A run that was stopped goes on when
    repeated.
    """
    from mixloader.errors import MixloaderError
    from mixloader.tools.sharding.sources import open_source
    from mixloader.tools.sharding.writer import ShardOptions

    if Path(source).is_dir() and dest.resolve().is_relative_to(Path(source).resolve()):
        raise MixloaderError(
            f"DEST {dest} lies in SOURCE {source}, where only images belong: name a folder outside of it"
        )
    threads = {} if workers is None else {"workers": workers}
    options = ShardOptions(max_size, quality, shard_size, levels=levels, recode=recode, **threads)
    names = tuple(name.strip() for name in classes.split(",")) if classes else None
    opened = open_source(source, split=split, root=root, classes=names)
    run_shard(opened, dest, options)
    _report_passed_over(opened)


def run_shard(source: Source, dest: Path, options: ShardOptions) -> None:
    """Write `source` to shards in `dest` with a progress bar, and say what was written.

    Raises:
        MixloaderError: `dest` holds something else, cannot be written, or no image could be read.
        KeyboardInterrupt: it was interrupted; the message says how to go on.
    """
    from mixloader.tools.console import progress_bar
    from mixloader.tools.sharding.writer import write_shards

    try:
        with progress_bar() as bar:
            task = bar.add_task(dest.name, total=len(source))
            summary = write_shards(
                source, dest, options=options, progress=lambda done, _: bar.update(task, completed=done)
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped: run the same command again, it goes on from the last whole shard in {dest}"
        ) from None
    _report(summary)


def _report(summary: Summary) -> None:
    from mixloader.tools.console import ERRORS, OUTPUT
    from mixloader.tools.sharding.sources import printable

    manifest = summary.manifest
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    shards = len(manifest.shards)
    counts = (
        f"{manifest.samples:,} images of {len(manifest.classes):,} classes in {shards:,} "
        f"{'shard' if shards == 1 else 'shards'}, {size:,.1f} MB"
    )
    dest = printable(str(summary.dest))
    if summary.already:
        OUTPUT.print(f"{dest} is finished already: {counts}")
    else:
        resumed = f" ({summary.resumed:,} of them by an earlier run)" if summary.resumed else ""
        OUTPUT.print(f"{dest}: {counts}{resumed}")
    for skipped in manifest.skipped[:_SHOWN]:
        ERRORS.print(printable(f"left out: {skipped.source}: {skipped.reason}"))
    if len(manifest.skipped) > _SHOWN:
        ERRORS.print(f"left out: {len(manifest.skipped):,} in all, {dest}/manifest.json names each")


def _report_passed_over(source: Source) -> None:
    """Say how many files were not taken for images: there may be images among them, of another extension."""
    from mixloader.tools.console import ERRORS
    from mixloader.tools.sharding.folder import FolderSource
    from mixloader.tools.sharding.sources import printable

    if not isinstance(source, FolderSource) or not source.passed_over:
        return
    extensions = [
        f"{count:,} {extension or 'without extension'}" for extension, count in source.passed_over.most_common()
    ]
    more = ", ..." if len(extensions) > _SHOWN else ""
    ERRORS.print(
        f"passed over: {source.passed_over.total():,} files that are no images by their names "
        f"({printable(', '.join(extensions[:_SHOWN]))}{more})"
    )
