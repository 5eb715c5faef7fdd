"""The race's contestants, with scripts in their place that do one thing right or wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixloader.loader import IMAGENET_MEAN, IMAGENET_STD
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.tools.bench.loader import process, race
from mixloader.tools.bench.loader.contestants import CONTESTANTS, Contestant, choose
from mixloader.tools.bench.loader.data import Folders, Repeated
from mixloader.tools.bench.loader.made_up import write_photographs
from mixloader.tools.bench.loader.prepare import Stage
from mixloader.tools.bench.loader.race import Cell, Start, run_cell
from mixloader.tools.bench.loader.reference import draw, labels_of, slots_of
from mixloader.tools.sharding.folder import FolderSource

# A contestant that holds no torch, so that it starts at once: it says what it is told to, line by line.
PRELUDE = """
import json, os, shutil, sys, time
task = json.loads(sys.argv[1])
open(task["options"]["pids"], "a").write(f"{os.getpid()}\\n")
def say(**answer): print(json.dumps(answer), flush=True)
def orders():
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "end": sys.exit()
        yield order
"""
HONEST = """
say(ready=True)
for order in orders():
    if order["do"] == "save":
        shutil.copy(task["options"]["batch"], order["path"])
        say()
    else:
        say(composites=task["options"]["rate"], seconds=1)
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """14 images, and a plan."""
    folder = tmp_path_factory.mktemp("race")
    write_photographs(folder / "images", 14)
    stage = Stage(Folders(folder / "made"), folder / "no-environment")
    stage.set_up(FolderSource(folder / "images"), 14, (), print)
    stage.add_plan("shared", 64, [1], ())
    return stage


@pytest.fixture
def start(stage: Stage, tmp_path: Path) -> Callable[..., Start]:
    """Make the start of a contestant with that program."""
    plan = Plan.load(stage.folders.plan("shared"))

    def make(name: str, program: str, *, rate: float = 100, wrong: str = "") -> Start:
        script, batch = tmp_path / f"{name}.py", tmp_path / f"{name}.npz"
        script.write_text(PRELUDE + program)
        save_batch(batch, stage.shards, plan, wrong)
        options = {"batch": str(batch), "rate": rate, "pids": str(tmp_path / "pids")}
        task = {"shards": str(stage.folders.shards("plain")), "options": options}
        return Start(Contestant(name, "none", "rival"), [sys.executable, "-S", str(script)], task)

    return make


def save_batch(path: Path, shards: ShardSet, plan: Plan, wrong: str) -> None:
    """What a contestant would save of the first batch, with a region map."""
    first = plan.batch(0)
    mean, std = np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)
    pixels, labels, slots = draw(shards, first), labels_of(shards, first), slots_of(first)
    pixels = pixels[:, :, ::-1] if wrong == "pixels" else pixels
    labels = labels[:, ::-1] if wrong == "labels" else labels
    slots = slots + 1 if wrong == "region map" else slots
    images = np.concatenate(((pixels / np.float32(255) - mean) / std, slots[..., None]), axis=3).transpose(0, 3, 1, 2)
    np.savez(path, images=images, labels=labels, canvases=np.arange(plan.canvases_per_batch))


def run(stage: Stage, *starts: Start, said: list[str] | None = None) -> Cell:
    plan = stage.folders.plan("shared")
    return run_cell(plan, stage.shards, 1, starts, 3, 0.01, (said if said is not None else []).append)


def test_who_delivers_the_same_pixels_is_measured_in_every_round(
    stage: Stage, start: Callable[..., Start], tmp_path: Path
) -> None:
    said: list[str] = []
    cell = run(stage, start("slow", HONEST, rate=50), start("fast", HONEST), said=said)
    slow, fast = cell.entries
    assert (slow.rates, fast.rates) == ((50, 50, 50), (100, 100, 100))
    assert slow.error is fast.error is None
    assert fast.difference is not None
    assert fast.difference < 1e-4
    assert cell.best_rival == fast
    assert [line.split(": ")[1].split()[0] for line in said] == ["slow", "fast", "fast", "slow", "slow", "fast"]
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    assert not any(Path("/proc", pid).exists() for pid in pids)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("pixels", "does not deliver the same pixels: they differ by "),
        ("labels", "does not deliver the same batch: its labels differ"),
        ("region map", "does not deliver the same batch: its region map differ"),
    ],
)
def test_who_delivers_something_else_gets_no_figures(
    wrong: str, error: str, stage: Stage, start: Callable[..., Start]
) -> None:
    other, right = run(stage, start("other", HONEST, wrong=wrong), start("right", HONEST)).entries
    assert other.rates == ()
    assert str(other.error).startswith(error)
    assert len(right.rates) == 3


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import a_library_that_is_not_there", "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"),
        ("sys.stderr.write('out of memory\\n\\n'); sys.exit(1)", "out of memory"),
        ("os.kill(os.getpid(), 9)", "no message"),
        ("time.sleep(60)", "no answer within 5 s"),
        ("say(ready=True)\nfor order in orders(): time.sleep(60)", "no answer within 5 s"),
        ("say(ready=True)\nnext(orders())\nsys.exit('enough')", "enough"),
    ],
)
def test_who_dies_or_hangs_is_named_with_the_reason(
    program: str, error: str, stage: Stage, start: Callable[..., Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_START_SECONDS", 5.0 if "sleep" in program else 60.0)
    monkeypatch.setattr(process, "_END_SECONDS", 1.0)
    monkeypatch.setattr(race, "_SLACK_SECONDS", 5.0)
    broken, right = run(stage, start("broken", program), start("right", HONEST)).entries
    assert (broken.error, broken.rates) == (error, ())
    assert len(right.rates) == 3


def test_who_dies_in_a_later_round_loses_the_earlier_figures(stage: Stage, start: Callable[..., Start]) -> None:
    program = HONEST.replace("say(composites", "if os.path.exists(sys.argv[0] + '.ran'): sys.exit('tired')\n        "
                             "open(sys.argv[0] + '.ran', 'w')\n        say(composites")  # fmt: skip
    tired, right = run(stage, start("tired", program), start("right", HONEST)).entries
    assert (tired.error, tired.rates) == ("tired", ())
    assert len(right.rates) == 3


def test_who_waits_for_its_turn_stands_still(stage: Stage, start: Callable[..., Start], tmp_path: Path) -> None:
    busy = start("busy", HONEST)
    with process.Process(list(busy.command), busy.task, os.sched_getaffinity(0)) as waiting:
        waiting.wait_ready()
        wait_stopped(int((tmp_path / "pids").read_text()))
        assert waiting.ask(10, do="measure", how={})["composites"] == 100


def test_who_hangs_takes_no_more_of_the_cores(stage: Stage, start: Callable[..., Start], tmp_path: Path) -> None:
    busy = start("busy", "say(ready=True)\nnext(orders())\nwhile True: pass")
    with process.Process(list(busy.command), busy.task, os.sched_getaffinity(0)) as hanging:
        hanging.wait_ready()
        with pytest.raises(process.ContestantError, match="no answer"):
            hanging.ask(0.1, do="measure", how={})
        wait_stopped(int((tmp_path / "pids").read_text()))


def test_whose_workers_outlive_it_is_found_dead_at_once(
    stage: Stage, start: Callable[..., Start], tmp_path: Path
) -> None:
    program = """
say(ready=True)
next(orders())
child = os.fork()
if child == 0:
    while True: pass
open(task["options"]["pids"], "a").write(f"{child}\\n")
sys.exit("dead")
"""
    parent = start("parent", program)
    with process.Process(list(parent.command), parent.task, os.sched_getaffinity(0)) as dying:
        dying.wait_ready()
        for _ in range(2):  # asked again, it still stands still
            with pytest.raises(process.ContestantError, match="dead"):
                dying.ask(60, do="measure", how={})
        wait_stopped(int((tmp_path / "pids").read_text().split()[-1]))


def wait_stopped(pid: int) -> None:
    """A process stops some time after it was told to."""
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_their_environment_rivals_say_what_to_do(stage: Stage) -> None:
    starts = {c.name: stage.start(c, "shared", 1) for c in CONTESTANTS}
    assert starts["DataLoader + torchvision v2"].command[0] == sys.executable
    error = starts["SPDL, simplejpeg"].error
    assert error == f"needs spdl-io, and there is no {stage.environment}: run `make bench-env`"


def test_what_could_not_be_installed_is_named_with_its_error(stage: Stage, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "failed.json").write_text('{"grain": "no such version", "simplejpeg": "no compiler"}')
    other = Stage(Folders(tmp_path / "made"), environment)
    other.set_up(FolderSource(stage.folders.root.parent / "images"), 1, (), print)
    (grain, *_) = choose("grain, threads")
    assert other.start(grain, "shared", 1).error == "grain could not be installed: no such version"
    (stock,) = choose("cutmix")
    assert other.start(stock, "shared", 1).error == "simplejpeg could not be installed: no compiler"


def test_an_epoch_is_repeated_until_it_is_long_enough(stage: Stage) -> None:
    source = FolderSource(stage.folders.root.parent / "images")
    repeated = Repeated(source, 3)
    images = [repeated[i] for i in (0, 14, 28)]
    assert len(repeated) == 42
    assert len({image.key for image in images}) == 3
    assert {image.data for image in images} == {source[0].data}
