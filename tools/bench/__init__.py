"""`mixloader bench`: measurements beside the competition, one a file or folder."""

import typer

from mixloader.tools.bench.loader import bench_loader
from mixloader.tools.bench.methods import bench_methods

bench = typer.Typer(name="bench", help="Measure mixloader beside the competition.", no_args_is_help=True)
bench.command("loader")(bench_loader)
bench.command("methods")(bench_methods)
