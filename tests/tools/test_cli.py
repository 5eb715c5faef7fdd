"""What all commands share: how they end when something stops them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.command import call

WORK = {
    "demo": "mixloader.tools.datasets.fashion_mnist.fashion_mnist_folder",
    "preview": "mixloader.tools.sheet.contact_sheet.draw_contact_sheet",
    "shard": "mixloader.tools.sharding.writer.write_shards",
    "bench loader": "mixloader.tools.bench.loader.data.open_pictures",
    "bench methods": "mixloader.tools.bench.methods.setups.open_setup",
}
"""Where the work of each command begins."""


def command(name: str, shards: Path, image_folder: Path, dest: Path) -> list[object]:
    arguments: dict[str, list[object]] = {
        "demo": ["--data", dest],
        "preview": [shards],
        "shard": [image_folder, dest],
        "bench loader": [shards],
        "bench methods": ["--folder", dest],
    }
    return [*name.split(), *arguments[name]]


def test_help_names_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    lines = [line.strip(" │").split() for line in capsys.readouterr().out.splitlines()]
    assert {"bench", "demo", "preview", "shard"} <= {line[0] for line in lines if line}


@pytest.mark.parametrize("name", ["demo", "preview", "bench loader", "bench methods"])
@pytest.mark.parametrize("out", ["file", "file/new", "folder"])
def test_an_output_that_cannot_be_written_is_one_line_before_the_work_begins(
    name: str,
    out: str,
    shards: Path,
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(WORK[name], work)
    (tmp_path / "file").write_bytes(b"kept")
    for file in ("result.json", "results.json", "runs.jsonl"):
        (tmp_path / "folder" / file).mkdir(parents=True)
    path = tmp_path / out
    if name not in ("demo", "bench methods") and out == "file":
        path /= "x.png"
    arguments = command(name, shards, image_folder, tmp_path / "dest")
    assert call(monkeypatch, *arguments, "--out", path) == 2
    line = capsys.readouterr().err
    assert line.startswith(str(path))
    assert line.endswith(": Not a directory\n" if out.startswith("file") else ": Is a directory\n")
    assert line.count("\n") == 1
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.parametrize("name", WORK)
def test_an_interrupt_is_one_line_and_status_130(
    name: str,
    shards: Path,
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WORK[name], interrupted)
    assert call(monkeypatch, *command(name, shards, image_folder, tmp_path / "dest")) == 130
    line = capsys.readouterr().err
    assert line.startswith("stopped")
    assert line.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))
