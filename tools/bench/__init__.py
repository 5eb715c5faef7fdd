"""`mixloader bench`: measurements beside the competition, one a file or folder."""

import typer

from mixloader.tools.bench.loader import bench_loader
from mixloader.tools.bench.methods import bench_methods
from mixloader.tools.bench.open import bench_open
from mixloader.tools.bench.plan import bench_plan
from mixloader.tools.bench.soak import bench_soak

bench = typer.Typer(name="bench", help="Measure mixloader beside the competition.", no_args_is_help=True)
bench.command("loader")(bench_loader)
bench.command("methods")(bench_methods)
bench.command("open")(bench_open)
bench.command("plan")(bench_plan)
bench.command("soak")(bench_soak)
