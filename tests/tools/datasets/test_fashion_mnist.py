from __future__ import annotations

import shutil
import subprocess
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.images import write_idx

from mixloader.errors import MixloaderError
from mixloader.tools.datasets import debian, fashion_mnist
from mixloader.tools.datasets.fashion_mnist import FASHION_CLASSES, fashion_mnist_folder
from mixloader.tools.vision import import_torchvision


def write_files(folder: Path) -> None:
    for prefix in ("train", "t10k"):
        write_idx(folder, np.zeros((1, 2, 2), np.uint8), np.zeros(1, np.uint8), prefix)


def unreachable(*arguments: Any, **options: Any) -> Any:
    raise MixloaderError("no network")


def test_the_classes_are_those_that_torchvision_names() -> None:
    assert list(FASHION_CLASSES) == import_torchvision().datasets.FashionMNIST.classes


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
            write_files(Path(command[3], "usr", "share"))
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


@pytest.mark.parametrize("fail_first", [0, 1])
def test_debian_is_asked_when_torchvision_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_first: int
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(fashion_mnist, "import_torchvision", unreachable)
    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian.subprocess, "run", fake_apt(commands, fail_first))
    assert fashion_mnist_folder(tmp_path) == tmp_path / "fashion-mnist"
    assert len(list((tmp_path / "fashion-mnist").iterdir())) == 4
    verbs = [command[1] for command in commands]
    assert verbs == (["download", "update", "download", "-x"] if fail_first else ["download", "-x"])


def test_each_failure_gives_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "import_torchvision", unreachable)
    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian.subprocess, "run", fake_apt([], 9))
    with pytest.raises(MixloaderError) as caught:
        fashion_mnist_folder(tmp_path)
    message = str(caught.value)
    assert f"a folder: its four IDX files are not in {tmp_path}, " in message
    assert "torchvision's download: no network;" in message
    assert "Debian's package dataset-fashion-mnist: `apt-get update` failed: E: Unable to locate package" in message
    assert "\n" not in message
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(MixloaderError, match="there is no apt-get and dpkg here"):
        fashion_mnist_folder(tmp_path)


@pytest.mark.parametrize("failure", [ValueError("bad\nreply"), IncompleteRead(b""), EOFError(), OSError(28, "full")])
def test_a_download_may_fail_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail() -> Any:
        raise failure

    monkeypatch.setattr(fashion_mnist, "import_torchvision", fail)
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(MixloaderError, match=r"torchvision's download: \S.*; Debian's package") as caught:
        fashion_mnist_folder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_an_interrupted_copy_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: int) -> None:
    """Interrupted in the middle of file number `copies`."""
    copyfile, begun = shutil.copyfile, []

    def interrupted(source: Path, target: Path) -> None:
        begun.append(target)
        if len(begun) <= copies:
            copyfile(source, target)
        else:
            Path(target).write_bytes(b"cut")
            raise KeyboardInterrupt

    monkeypatch.setattr(fashion_mnist, "import_torchvision", unreachable)
    monkeypatch.setattr(debian.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian.subprocess, "run", fake_apt([], 0))
    with monkeypatch.context() as patch:
        patch.setattr(fashion_mnist.shutil, "copyfile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fashion_mnist_folder(tmp_path)
    folder = fashion_mnist_folder(tmp_path)
    assert b"cut" not in [path.read_bytes() for path in folder.iterdir()]
    assert len(list(folder.iterdir())) == 4
