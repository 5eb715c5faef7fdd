"""`mixloader bench`: measurements beside the competition, one a file."""

import typer

from mixloader.tools.bench.loader import bench_loader

bench = typer.Typer(name="bench", help="Measure mixloader beside the competition.", no_args_is_help=True)
bench.command("loader")(bench_loader)


@bench.callback()
def _group() -> None:
    """Keeps `loader` a subcommand while it is the only one."""
