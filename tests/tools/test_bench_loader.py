"""`mixloader bench loader` from end to end, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command import call

from mixloader.tools.bench.loader.contestants import CONTESTANTS, choose
from mixloader.tools.bench.loader.made_up import write_photographs
from mixloader.tools.bench.loader.plans import PLANS
from mixloader.tools.bench.loader.race import Cell, Entry
from mixloader.tools.bench.loader.report import notes, table, write_up


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 made-up photographs in class folders."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 14)
    return folder


def bench(photographs: Path, *more: object) -> tuple[object, ...]:
    rounds = ("--rounds", 1, "--seconds", 0.02, "--image-size", 64, "--epoch", 14, "--threads", 1, "--plans", "shared")
    return ("bench", "loader", photographs, *rounds, "--environment", photographs / "none", *more)


def test_the_command_measures_contestants_and_names_those_that_it_cannot(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "folder"
    who = "=mixloader;=DataLoader + torchvision v2;=SPDL, simplejpeg;=limit"
    assert call(monkeypatch, *bench(photographs, "--only", who, "--out", out)) == 0
    result = json.loads((out / "results.json").read_text())
    assert {"command", "versions", "rivals", "processor", "cores", "load_average", "data", "seconds"} <= result.keys()
    (cell,) = result["results"]
    assert (cell["plan"], cell["threads"], cell["images_per_canvas"]) == ("shared", 1, 1.75)
    assert cell["best_rival"] == "DataLoader + torchvision v2"
    ours, rival, missing, limit = cell["contestants"]
    for entry in (ours, rival, limit):
        assert entry["error"] is None
        assert entry["composites_per_second"] == entry["rounds"][0] > 0
    assert ours["difference"] < 1 / 255
    assert rival["difference"] < 1 / 255
    assert ours["ratio_to_best_rival"]["median"] > 0
    assert ours["share_of_limit"]["median"] > 0
    assert missing["error"] == f"needs spdl-io, and there is no {photographs / 'none'}: run `make bench-env`"
    assert missing["composites_per_second"] is None
    printed = capsys.readouterr()
    assert (out / "table.md").read_text() in printed.out
    assert "No figures for SPDL, simplejpeg: needs spdl-io" in printed.out
    assert "round 1 of 1: mixloader " in printed.err
    assert (out / "chart.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_contestants_and_says_one_line(number: int, photographs: Path, tmp_path: Path) -> None:
    arguments = map(str, bench(photographs, "--only", "=mixloader;=limit", "--seconds", 60))
    program = "from mixloader.tools import cli; cli.main()"
    errors, temporary = tmp_path / "errors", tmp_path / "temporary"
    temporary.mkdir()
    with errors.open("w") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stderr=file,
            stdout=file,
            env={**os.environ, "TMPDIR": str(temporary)},
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not contestants_of(running.pid):
            assert running.poll() is None, errors.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = contestants_of(running.pid)
        os.killpg(running.pid, number)  # as a terminal does
        assert running.wait(60) == 130
    assert errors.read_text().endswith("\nstopped\n")
    assert not any(Path("/proc", str(pid)).exists() for pid in started)
    assert not any(temporary.iterdir())


def test_an_interrupt_of_the_preparation_leaves_no_files(photographs: Path, tmp_path: Path) -> None:
    program = "from mixloader.tools import cli; cli.main()"
    arguments = map(str, bench(photographs, "--only", "=limit", "--epoch", 1_000_000))
    running = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/race/shards/*")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGHUP)
    assert running.wait(60) == 130
    assert not any(tmp_path.iterdir())


def contestants_of(process: int) -> list[int]:
    """The processes that it started in a session of their own."""
    children = map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return [child for child in children if os.getsid(child) == child]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--threads", "0", "--threads=0: give numbers from 1 to "),
        ("--threads", "two", "--threads=two: give numbers from 1 to "),
        ("--threads", "1,100000", "--threads=1,100000: give numbers from 1 to "),
        ("--threads", "", "--threads=: give numbers from 1 to "),
        ("--plans", "shared,half", "--plans=shared,half: give some of shared,scaled,fours,whole"),
        ("--only", "FFCV", "--only FFCV: there are mixloader; "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    option: str,
    value: str,
    said: str,
    photographs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *bench(photographs, option, value)) == 2
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1


@pytest.mark.parametrize(("cores", "counts"), [({5}, [1]), ({0, 1}, [1, 2]), ({0, 1, 2, 7}, [1, 2])])
def test_by_default_it_takes_the_cores_that_are_there(
    cores: set[int], counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixloader.tools.bench.loader import _thread_counts

    monkeypatch.setattr("os.sched_getaffinity", lambda process: cores)
    assert _thread_counts(None) == counts
    assert _thread_counts("1,1") == [1]


def test_contestants_are_chosen_by_a_part_of_their_name_or_all_of_it() -> None:
    assert choose(None) == CONTESTANTS
    assert [c.name for c in choose("grain; =LIMIT")] == ["Grain, threads", "Grain, processes", "limit"]


def cell() -> Cell:
    """Two rounds of everybody: number n makes n and n + 1 hundred composites a second, but DALI fails."""
    entries = [Entry(c, 0.001, (100.0 * n, 100.0 * n + 100)) for n, c in enumerate(CONTESTANTS, 1)]
    failed = [Entry(e.contestant, error="it broke") if e.contestant.name == "DALI" else e for e in entries]
    return Cell("scaled", 2, 32, 1.75, tuple(failed))


def test_the_table_compares_round_by_round() -> None:
    best = next(e for e in cell().entries if e.contestant.name == "webdataset")
    assert cell().best_rival == best
    lines = table(cell()).splitlines()
    assert lines[0] == f"**scaled: {PLANS['scaled'][0]}; 2 threads, 32 canvases a batch**"
    assert len({len(line) for line in lines[2:]}) == 1
    assert [text.strip() for text in next(line for line in lines if "| mixloader  " in line).split("|")[1:-1]] == [
        "mixloader", "150", "262", "0.13 (0.09 to 0.17)", "10 %", "0.26"
    ]  # fmt: skip
    assert next(line for line in lines if "| DALI " in line).split("|")[2].strip() == "no figures"


def test_notes_are_said_once_for_all_who_share_them() -> None:
    said = notes([cell(), cell()])
    assert len(said) == len(set(said))
    assert said[0].startswith("mixloader; mixloader, levels; mixloader, levels + markers; mixloader, pipeline=dali: ")
    assert said[1].startswith("mixloader, levels; mixloader, levels + markers: ")
    assert said[-1] == "No figures for DALI: it broke"
    assert write_up([cell()], "some images").startswith("Data: some images.\n\n**scaled")


def test_a_chart_is_drawn_with_no_figures_at_all(tmp_path: Path) -> None:
    from mixloader.tools.bench.loader.chart import draw_chart

    nobody = Cell("whole", 1, 56, 1.0, tuple(Entry(c, error="broken") for c in CONTESTANTS[:3]))
    draw_chart([nobody, cell()], tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
