from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.command import call
from helpers.images import jpeg, write_idx, write_image_folder

from mixloader.shards import ShardSet


def test_a_folder_becomes_shards(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "out [1]"
    assert call(monkeypatch, "shard", image_folder, dest, "--shard-size", 10, "--workers", 2) == 0
    assert re.search(r"out \[1\]: 24 images of 3 classes in 3 shards, 0\.\d MB\n$", capsys.readouterr().out)
    assert len(ShardSet(dest)) == 24
    assert call(monkeypatch, "shard", image_folder, dest, "--shard-size", 10) == 0
    assert "is finished already: 24 images" in capsys.readouterr().out


def test_idx_files_with_named_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    write_idx(tmp_path / "idx", images, np.array([1, 0, 1]), "t10k")
    dest = tmp_path / "out"
    assert call(monkeypatch, "shard", tmp_path / "idx", dest, "--split", "test", "--classes", "cat, dog") == 0
    assert [ShardSet(dest).classes[label] for label in ShardSet(dest).labels] == ["dog", "cat", "dog"]


def test_errors_are_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert call(monkeypatch, "shard", tmp_path / "in", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"{tmp_path}/in has no class folders: put the images of each class in one"]


@pytest.mark.parametrize("dest", [".", "out", "cat/nested/out", "link"])
def test_shards_are_not_written_into_their_source(
    dest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_image_folder(tmp_path / "in", per_class=2)
    if dest == "link":
        (tmp_path / dest).symlink_to(source)
    before = sorted(source.rglob("*"))
    assert call(monkeypatch, "shard", source, (tmp_path if dest == "link" else source) / dest) == 2
    line = capsys.readouterr().err
    assert f"lies in SOURCE {source}" in line
    assert line.count("\n") == 1
    assert sorted(source.rglob("*")) == before


def test_images_left_out_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image_folder(tmp_path / "in", per_class=2)
    for i in range(7):
        (tmp_path / "in" / "cat" / f"bad{i}.jpg").write_bytes(b"bad")
    assert call(monkeypatch, "shard", tmp_path / "in", tmp_path / "out") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("left out: cat/bad0.jpg: cannot be decoded")
    assert lines[-1] == f"left out: 7 in all, {tmp_path}/out/manifest.json names each"
    assert len(ShardSet(tmp_path / "out")) == 6


RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell has started in the background
from mixloader.tools import cli
from mixloader.tools.sharding import writer
encode = writer.encode
writer.encode = lambda *arguments, **options: (time.sleep(0.02), encode(*arguments, **options))[1]
sys.argv = ["mixloader", "shard", *sys.argv[1:]]
cli.main()
"""


def start_slow_run(source: Path, dest: Path, *options: str) -> subprocess.Popen[str]:
    """A run in a process of its own, returned once it has finished a shard and begun another."""
    command = [sys.executable, "-c", RUN, str(source), str(dest), "--shard-size", "10", "--workers", "1", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (dest / "shard-000000.tar").exists() or not list(dest.glob(".*/*.tar.part")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [[], ["--levels", "2", "--recode"]])
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    source = write_image_folder(tmp_path / "in", per_class=15)
    for number, path in enumerate(sorted(source.rglob("*.jpg"))):
        if number % 3 == 0:  # large enough for a level
            path.write_bytes(jpeg(150, 130 + number, number))
    process = start_slow_run(source, tmp_path / "killed", *options)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    first = (tmp_path / "killed" / "shard-000000.tar").stat().st_mtime_ns
    assert call(monkeypatch, "shard", source, tmp_path / "killed", "--shard-size", 10, *options) == 0
    assert re.search(r"45 images .* \(\d0 of them by an earlier run\)", capsys.readouterr().out)
    assert (tmp_path / "killed" / "shard-000000.tar").stat().st_mtime_ns == first
    assert call(monkeypatch, "shard", source, tmp_path / "whole", "--shard-size", 10, *options) == 0
    assert ShardSet(tmp_path / "whole").levels == (2 if options else 0)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_an_interrupted_run_says_that_it_goes_on(tmp_path: Path) -> None:
    source = write_image_folder(tmp_path / "in", per_class=15)
    process = start_slow_run(source, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: run the same command again, it goes on from the last whole shard" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").glob(".*/*.part"))
