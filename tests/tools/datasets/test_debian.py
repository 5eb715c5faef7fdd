from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mixloader.errors import MixloaderError
from mixloader.tools.datasets import debian


def test_a_package_is_unpacked_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...], cwd: str, **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if command[0] == "apt-get":
            Path(cwd, "some_1%3a2_all.deb").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian.subprocess, "run", run)
    debian.unpack_package("some", tmp_path / "new" / "folder")
    unpack = ("dpkg", "-x", "some_1%3a2_all.deb", str(tmp_path / "new" / "folder"))
    assert commands == [("apt-get", "download", "some"), unpack]
    assert (tmp_path / "new" / "folder").is_dir()


def test_a_command_that_does_not_end_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: tuple[str, ...], timeout: float, **options: Any) -> Any:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian.subprocess, "run", hang)
    with pytest.raises(MixloaderError, match="`apt-get update` did not end within 1800 s"):
        debian.unpack_package("some", tmp_path)
