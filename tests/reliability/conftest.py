"""What the tests of reliability share: how much they try, and a note of what they tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Note = Callable[..., None]
"""`note(what, **figures)`: one line of docs/reliability.md, such as note("kill -9", kills=50, lost=0)."""


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether to try as much as docs/reliability.md reports, instead of the short form that always runs."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture(scope="session")
def note(request: pytest.FixtureRequest) -> Note:
    """Notes figures, in the file that `--figures` names; a later note of the same thing replaces it."""
    path = request.config.getoption("--figures")

    def write(what: str, **figures: Any) -> None:
        if path is None:
            return
        file = Path(path)
        noted = json.loads(file.read_text()) if file.exists() else {}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**noted, what: figures}, indent=1, sort_keys=True) + "\n")

    return write
