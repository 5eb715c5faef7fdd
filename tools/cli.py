"""The `mixloader` command: one line here for each command; what a command needs is imported when it runs."""

from __future__ import annotations

import sys

import typer

from mixloader.errors import MixloaderError
from mixloader.tools.bench import bench
from mixloader.tools.demo import demo
from mixloader.tools.preview import preview
from mixloader.tools.shard import shard

app = typer.Typer(
    name="mixloader",
    help="Image shards, and what mixloader makes of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench)
app.command("demo")(demo)
app.command("preview")(preview)
app.command("shard")(shard)


def main() -> None:
    """Runs the command line; what mixloader raises becomes one line on standard error and exit status 2."""
    try:
        app()
    except MixloaderError as error:
        from mixloader.tools.console import ERRORS

        ERRORS.print(str(error), style="red")
        sys.exit(2)
