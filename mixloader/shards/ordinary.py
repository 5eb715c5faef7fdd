"""Opening of ordinary files only: a pipe would keep the reader waiting, a device may never end."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


def open_ordinary(path: Path) -> io.FileIO:
    """Opens an ordinary file for reading, unbuffered.

    Raises:
        OSError: it cannot be opened, or is no ordinary file.
    """
    _check(path, path.stat())  # before it is opened: opening a device may do something

    def at_once(name: str, flags: int) -> int:  # it may be a pipe by now
        return os.open(name, flags | os.O_NONBLOCK)

    file = open(path, "rb", buffering=0, opener=at_once)  # noqa: SIM115  (closed by who asked for it)
    try:
        _check(path, os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
