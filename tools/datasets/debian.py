"""Files of a Debian package, without installing it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from mixloader.errors import MixloaderError

_SECONDS = 1800.0  # of one command: the largest package has 150 MB


def unpack_package(name: str, into: Path) -> None:
    """Download a package with apt-get and unpack its files below `into`, as they would lie below `/`.

    Args:
        name: of the package.
        into: a folder; made where it is not there.

    Raises:
        MixloaderError: there is no apt-get or dpkg here, or one of them failed; it gives the last line said.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise MixloaderError("there is no apt-get and dpkg here")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            _run(temporary, "apt-get", "download", name)
        except MixloaderError:
            _run(temporary, "apt-get", "update")  # a fresh machine has no package lists
            _run(temporary, "apt-get", "download", name)
        package = next(Path(temporary).glob("*.deb"))
        into.mkdir(parents=True, exist_ok=True)
        _run(temporary, "dpkg", "-x", package.name, str(into.resolve()))


def _run(folder: str, *command: str) -> None:
    said = " ".join(command)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise MixloaderError(f"`{said}` did not end within {_SECONDS:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise MixloaderError(f"`{said}` failed: {lines[-1]}")
