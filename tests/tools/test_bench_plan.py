from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.command import call

from mixloader.tools.bench import plan, plan_costs
from mixloader.tools.bench.plan_costs import POLICIES, Question, measure


def bench(*more: object) -> tuple[object, ...]:
    return ("bench", "plan", "--rounds", 2, *more)


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_measure_apart", measure)


def test_the_command_measures_every_size_in_a_fresh_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    assert call(monkeypatch, *bench("--samples", "300,1_200", "--batch-size", 64, "--ranks", "1,4", "--out", out)) == 0
    result = json.loads((out / "results.json").read_text())
    assert set(result["versions"]) >= {"python", "torch", "simplejpeg", "pillow", "numpy"}
    assert result["command"].startswith("mixloader bench plan ")
    assert set(result["load_average"]) == {"before", "after"}
    assert [one["samples"] for one in result["results"]] == [300, 1200]
    for one in result["results"]:
        seconds = one["seconds"]
        assert set(seconds) == {"argsort", "allocate", "deal", "plan_again", "draw_an_epoch_extrapolated"}
        assert set(seconds["draw_an_epoch_extrapolated"]) == {"1", "4"}
        measured = [seconds[step] for step in ("argsort", "allocate", "deal")]
        for times in (*measured, seconds["plan_again"], *seconds["draw_an_epoch_extrapolated"].values()):
            assert len(times) == 2
            assert min(times) > 0
        assert one["ratios"] == [(a + d) / s for s, a, d in zip(*measured, strict=True)]
        assert one["peak_next"] >= one["peak"] > one["before"] > 0
    pids = [one["pid"] for one in result["results"]]
    assert len({os.getpid(), *pids}) == 3
    table = (out / "table.md").read_text()
    printed = capsys.readouterr()
    assert table in printed.out
    assert "| 1,200 " in table
    assert " for 4.0 |" in table
    assert "each of 4" in table
    assert "extrapolated from 24 blocks" in table
    assert printed.err == "300 samples\n1,200 samples\n"


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_can_be_measured(
    policy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_this_process(monkeypatch)
    assert call(monkeypatch, *bench("--samples", 600, "--policy", policy, "--ranks", 1)) == 0
    assert f"policy {policy}" in capsys.readouterr().out


def test_rows_are_drawn_in_blocks_spread_over_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted:
        batches, batches_per_block = 1001, 10

        def __init__(self) -> None:
            self.asked: list[int] = []

        def batch(self, b: int, *, rank: int, ranks: int) -> None:
            assert (rank, ranks) == (0, 2)
            self.asked.append(b)

    counted: Any = Counted()
    monkeypatch.setattr(plan_costs, "_seconds", lambda work: work() or 1.0)
    assert plan_costs._draw(counted, 2) == pytest.approx(1001 / len(counted.asked))
    assert len(set(counted.asked)) == len(counted.asked) == 23 * 10 + 1
    assert (counted.asked[0], counted.asked[-1]) == (0, 1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samples", "0"), "--samples=0: give numbers of at least 1"),
        (("--samples", "ten"), "--samples=ten: give numbers of at least 1"),
        (("--ranks", "1,"), "--ranks=1,: give numbers of at least 1"),
        (("--policy", "best"), "--policy=best: it is one of mixtrain, pairs"),
        (("--ranks", "7"), "--ranks: 7 cannot share the canvases of a batch evenly (240)"),
        (("--policy", "infobatch"), "--ranks: 8 cannot share the canvases of a batch evenly (a number not known"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_work_begins(
    options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "_measure_apart", lambda question: pytest.fail("the work has begun"))
    assert call(monkeypatch, *bench(*options)) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_an_output_that_cannot_be_written_is_refused_before_the_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "_measure_apart", lambda question: pytest.fail("the work has begun"))
    (tmp_path / "file").touch()
    assert call(monkeypatch, *bench("--out", tmp_path / "file" / "folder")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def die(question: Question) -> dict[str, Any]:
    raise MemoryError


def test_a_process_without_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from concurrent import futures

    monkeypatch.setattr(plan_costs, "measure", die)
    monkeypatch.setattr(futures, "ProcessPoolExecutor", lambda workers, context: futures.ThreadPoolExecutor(workers))
    assert call(monkeypatch, *bench("--samples", 100_000_000)) == 2
    assert "planned 100,000,000 samples died, probably for want of memory: it needs about 10.0 GB" in (
        capsys.readouterr().err
    )
