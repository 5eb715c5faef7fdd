"""The scoreboard on made-up runs: order, means, times, and how much of the gap an entry recovers."""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from helpers.runs import relaxed
from hypothesis import assume, given
from hypothesis import strategies as st

from mixloader.tools.bench.methods.scoreboard import FEWER, PLAIN, Row, score_runs, write_markdown

accuracies = st.lists(st.floats(60, 95), min_size=2, max_size=6)
names = st.sampled_from([FEWER, "MixTrain", "InfoBatch", "Progressive"])


def run(name: str, target: float, seed: int, accuracy: float, seconds: float = 10, **more: Any) -> dict[str, Any]:
    defaults = {"name": name, "target": target, "seed": seed, "accuracy": accuracy, "seconds": seconds}
    return {**defaults, "cost": target, **more}


def runs_of(name: str, target: float, by_seed: list[float], **more: Any) -> list[dict[str, Any]]:
    return [run(name, target, seed, accuracy, **more) for seed, accuracy in enumerate(by_seed)]


def row_of(rows: list[Row], name: str) -> Row:
    (row,) = [row for row in rows if row.name == name]
    return row


@relaxed
@given(own=accuracies, fewer=accuracies, plain=accuracies)
def test_the_gap_recovered_is_a_ratio_of_means_over_the_seeds_that_all_have(
    own: list[float], fewer: list[float], plain: list[float]
) -> None:
    seeds = min(map(len, (own, fewer, plain)))
    gained = np.array(own[:seeds]) - fewer[:seeds]
    gap = np.array(plain[:seeds]) - fewer[:seeds]
    assume(abs(gap.mean()) > 0.01)
    rows = score_runs(runs_of(PLAIN, 1.0, plain) + runs_of(FEWER, 0.5, fewer) + runs_of("MixTrain", 0.5, own))
    found = row_of(rows, "MixTrain").gap
    if gap.mean() < 0:
        assert found is None
        return
    ratio = gained.mean() / gap.mean()
    (vg, cov), (_, vd) = np.cov(gained, gap)  # the delta method, from the variances and the covariance of both means
    variance = (vg + ratio**2 * vd - 2 * ratio * cov) / seeds / gap.mean() ** 2
    assert found is not None
    assert found[0] == pytest.approx(ratio)
    assert found[1] == pytest.approx(math.sqrt(max(variance, 0)), rel=1e-6, abs=1e-6)


def test_the_gap_by_hand() -> None:
    rows = score_runs(
        runs_of(PLAIN, 1.0, [90, 92]) + runs_of(FEWER, 0.5, [86, 88]) + runs_of("MixTrain", 0.5, [89, 90])
    )
    assert row_of(rows, "MixTrain").gap == pytest.approx((2.5 / 4, 0.5 / 4))
    assert row_of(rows, FEWER).gap == (0, 0)
    assert row_of(rows, PLAIN).gap is None


def test_a_single_seed_has_a_gap_without_an_error_and_no_deviation() -> None:
    rows = score_runs([run(PLAIN, 1.0, 0, 90), run(FEWER, 0.5, 0, 86), run("MixTrain", 0.5, 0, 89)])
    row = row_of(rows, "MixTrain")
    assert row.gap is not None
    assert row.gap[0] == 0.75
    assert math.isnan(row.gap[1])
    assert row.deviation == 0
    assert "| MixTrain | 0.500 | 89.00 ± 0.00 (1) | 0.75 | 1.00 |" in write_markdown(rows)


def test_without_plain_training_there_is_neither_gap_nor_time() -> None:
    rows = score_runs(runs_of(FEWER, 0.5, [86, 87]) + runs_of("MixTrain", 0.5, [89, 90]))
    assert [(row.gap, row.time) for row in rows] == [(None, None)] * 2
    assert "| MixTrain | 0.500 | 89.50 ± 0.71 (2) |  |  |" in write_markdown(rows)
    assert score_runs([]) == []


def test_the_gap_is_that_to_the_shorter_runs_of_the_same_cost() -> None:
    rows = score_runs(
        runs_of(PLAIN, 1.0, [90, 90])
        + runs_of(FEWER, 0.5, [80, 80])
        + runs_of(FEWER, 0.625, [88, 88])
        + runs_of("MixTrain", 0.5, [85, 85])
        + runs_of("MixTrain", 0.625, [89, 89])
    )
    assert [(row.target, row.gap) for row in rows if row.name == "MixTrain"] == [(0.625, (0.5, 0)), (0.5, (0.5, 0))]


def test_time_is_the_median_relative_to_plain_training_of_the_same_seed() -> None:
    runs = [run(PLAIN, 1.0, seed, 90, seconds=10 * (seed + 1)) for seed in range(3)]
    runs += [run("MixTrain", 0.5, seed, 89, seconds=seconds) for seed, seconds in enumerate((5, 12, 24, 1000))]
    row = row_of(score_runs(runs), "MixTrain")  # 0.5, 0.6, 0.8, and a seed without its plain run
    assert row.time == 0.6
    assert list(row.accuracies) == [0, 1, 2, 3]


@relaxed
@given(st.lists(st.tuples(names, st.sampled_from([0.5, 1 / 1.8, 0.625]), accuracies), max_size=8), accuracies)
def test_plain_comes_first_then_the_dearest_then_the_best(
    groups: list[tuple[str, float, list[float]]], plain: list[float]
) -> None:
    by_entry = {(name, target): by_seed for name, target, by_seed in groups}
    runs = [r for (name, target), by_seed in by_entry.items() for r in runs_of(name, target, by_seed)]
    rows = score_runs(runs + runs_of(PLAIN, 1.0, plain))
    assert rows[0].name == PLAIN
    assert {row.name for row in rows[1:]} == {name for name, _ in by_entry}
    assert len(rows) == len(by_entry) + 1
    order = [(-row.target, -row.mean) for row in rows[1:]]
    assert order == sorted(order)
    for row in rows[1:]:
        (by_seed,) = [
            by_entry[name, target] for name, target in by_entry if (name, round(target, 4)) == (row.name, row.target)
        ]
        assert row.mean == pytest.approx(mean(by_seed))
        assert row.deviation == pytest.approx(stdev(by_seed))


def test_the_cost_is_the_mean_of_what_was_spent_not_of_what_was_asked_for() -> None:
    rows = score_runs([run("MixTrain", 0.5, 0, 80, cost=0.49), run("MixTrain", 0.5, 1, 80, cost=0.5)])
    assert rows[0].cost == pytest.approx(0.495)


def test_the_table_is_markdown_with_a_line_for_every_row() -> None:
    rows = score_runs(
        runs_of(PLAIN, 1.0, [90, 92]) + runs_of(FEWER, 0.5, [86, 88]) + runs_of("MixTrain", 0.5, [89, 90])
    )
    lines = write_markdown(rows).splitlines()
    assert {line.count("|") for line in lines} == {6}
    assert lines[2:] == [
        "| plain | 1.000 | 91.00 ± 1.41 (2) |  | 1.00 |",
        "| MixTrain | 0.500 | 89.50 ± 0.71 (2) | 0.62 ± 0.12 | 1.00 |",
        "| plain, fewer epochs | 0.500 | 87.00 ± 1.41 (2) |  | 1.00 |",
    ]
