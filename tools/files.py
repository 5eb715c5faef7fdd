"""Files that a command writes when its work is done."""

from __future__ import annotations

from pathlib import Path


def prepare_file(path: Path) -> None:
    """Make the folder of a file that is written later, and try the file: nothing fails after minutes of work.

    Raises:
        OSError: it cannot be written.
    """
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
    there = path.exists()
    path.open("ab").close()
    if not there:
        path.unlink()
