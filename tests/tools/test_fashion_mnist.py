from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.images import write_idx

from mixloader.errors import MixloaderError
from mixloader.tools import fashion_mnist
from mixloader.tools.fashion_mnist import FASHION_CLASSES, fashion_mnist_folder


def write_files(folder: Path) -> None:
    for prefix in ("train", "t10k"):
        write_idx(folder, np.zeros((1, 2, 2), np.uint8), np.zeros(1, np.uint8), prefix)


def unreachable(*arguments: Any, **options: Any) -> Any:
    raise MixloaderError("no network")


def test_ten_classes() -> None:
    assert len(set(FASHION_CLASSES)) == 10


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw", "fashion-mnist"])
def test_files_that_are_there_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(fashion_mnist, "import_torchvision", unreachable)
    write_files(tmp_path / place)
    assert fashion_mnist_folder(tmp_path) == tmp_path / place


def fake_apt(commands: list[tuple[str, ...]], fail_first: int):
    """What subprocess.run does with apt-get and dpkg; the first `fail_first` commands fail."""

    def run(command: tuple[str, ...], cwd: str, **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if len(commands) <= fail_first:
            return subprocess.CompletedProcess(command, 100, "", "W: x\nE: Unable to locate package\n")
        if command[1] == "download":
            Path(cwd, "x.deb").touch()
        if command[0] == "dpkg":
            write_files(Path(cwd, "unpacked", "usr", "share"))
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


@pytest.mark.parametrize("fail_first", [0, 1])
def test_debian_is_asked_when_torchvision_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_first: int
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(fashion_mnist, "import_torchvision", unreachable)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: name)
    monkeypatch.setattr(fashion_mnist.subprocess, "run", fake_apt(commands, fail_first))
    assert fashion_mnist_folder(tmp_path) == tmp_path / "fashion-mnist"
    assert len(list((tmp_path / "fashion-mnist").iterdir())) == 4
    verbs = [command[1] for command in commands]
    assert verbs == (["download", "update", "download", "-x"] if fail_first else ["download", "-x"])


def test_each_failure_gives_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "import_torchvision", unreachable)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: name)
    monkeypatch.setattr(fashion_mnist.subprocess, "run", fake_apt([], 9))
    with pytest.raises(MixloaderError) as caught:
        fashion_mnist_folder(tmp_path)
    message = str(caught.value)
    assert "no IDX files in" in message
    assert "torchvision: no network" in message
    assert "Debian: `apt-get update` failed: E: Unable to locate package" in message
    assert "\n" not in message
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: None)
    with pytest.raises(MixloaderError, match="there is no apt-get and dpkg here"):
        fashion_mnist_folder(tmp_path)
