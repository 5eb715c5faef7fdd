"""The `mixloader` command: one line here for each command; what a command needs is imported when it runs."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from mixloader.errors import MixloaderError
from mixloader.tools.bench import bench
from mixloader.tools.demo import demo
from mixloader.tools.preview import preview
from mixloader.tools.shard import shard


class _Commands(TyperGroup):
    """The commands. What stops one becomes one line on standard error, and its exit status 2, or 130 after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        from mixloader.tools.console import ERRORS

        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # nobody reads any more: typer ends in silence
        except KeyboardInterrupt as interrupt:
            ERRORS.print(str(interrupt) or "stopped")
            raise typer.Exit(130) from None
        except (MixloaderError, OSError) as error:
            ERRORS.print(_line(error), style="red")
            raise typer.Exit(2) from None


def _line(error: MixloaderError | OSError) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


app = typer.Typer(
    name="mixloader",
    help="Image shards, and what mixloader makes of them.",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench)
app.command("demo")(demo)
app.command("preview")(preview)
app.command("shard")(shard)


def main() -> None:
    """Runs the command line."""
    app()
