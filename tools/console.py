"""What commands print with: two streams with no markup, as a path may hold brackets, and a progress bar."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

OUTPUT = Console(markup=False, highlight=False, soft_wrap=True)
"""What a command found or did."""

ERRORS = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
"""Progress, warnings and errors."""


def progress_bar() -> Progress:
    """A progress bar that goes away when done; nothing at all where standard error is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=ERRORS, transient=True, disable=not ERRORS.is_terminal)
