"""The journal: a file of JSON lines, one a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mixloader.errors import MixloaderError


class Journal:
    """The finished runs of a benchmark; a run is found again by its key.

    Args:
        path: the file; it need not be there yet. A last line that was cut off, by a kill, is dropped.

    Raises:
        MixloaderError: another line is no run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: list[dict[str, Any]] = []
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                run = json.loads(line)
            except ValueError:  # bytes that are no text included
                run = None
            if not isinstance(run, dict):
                raise MixloaderError(f"{path}, line {number}, is no run of a benchmark: mend or remove it")
            self._runs.append(run)
        if whole != data:
            path.write_bytes(whole)

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The run whose values are those of `key`, or None."""
        return next((run for run in self._runs if all(run.get(name) == key[name] for name in key)), None)

    def append(self, run: dict[str, Any]) -> None:
        """Write a run, at once."""
        self._runs.append(run)
        with self._path.open("a") as file:
            file.write(json.dumps(run) + "\n")
