"""The command line, called as its entry point is."""

from __future__ import annotations

import sys

import pytest

from mixloader.tools import cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `mixloader` with these arguments; its exit status."""
    monkeypatch.setattr(sys, "argv", ["mixloader", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)
