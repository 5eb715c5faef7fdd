"""The scoreboard: what the runs of a benchmark say, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

PLAIN, FEWER = "plain", "plain, fewer epochs"


@dataclass(frozen=True)
class Row:
    """An entry, over its seeds.

    Attributes:
        name: of the entry.
        target: the cost that it is held against.
        cost: passes / plain passes, mean.
        accuracies: per cent, by seed.
        time: wall time / plain's of the same seed, median; None without one.
        gap: the part of the gap between plain with fewer epochs and full plain that it recovers: mean and standard
            error over the seeds that all three have; None where there are no such, or no such gap.
    """

    name: str
    target: float
    cost: float
    accuracies: dict[int, float]
    time: float | None
    gap: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """Mean accuracy, per cent."""
        return mean(self.accuracies.values())

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds, 0 for a single one."""
        return stdev(self.accuracies.values()) if len(self.accuracies) > 1 else 0.0


def score_runs(runs: Iterable[dict[str, Any]]) -> list[Row]:
    """One row an entry, plain first, then by the cost it is held against, dearest first, and by accuracy.

    Args:
        runs: as `run_trial` returns them, all of one data set, network and split.
    """
    entries: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for run in runs:
        entries.setdefault((run["name"], round(run["target"], 4)), []).append(run)
    plain = {run["seed"]: run for run in entries.get((PLAIN, 1.0), [])}
    rows = []
    for (name, target), group in entries.items():
        fewer = {run["seed"]: run["accuracy"] for run in entries.get((FEWER, target), [])}
        times = [run["seconds"] / plain[run["seed"]]["seconds"] for run in group if run["seed"] in plain]
        accuracies = {run["seed"]: run["accuracy"] for run in group}
        rows.append(
            Row(
                name=name,
                target=target,
                cost=mean(run["cost"] for run in group),
                accuracies=accuracies,
                time=median(times) if times else None,
                gap=_gap(accuracies, fewer, {seed: run["accuracy"] for seed, run in plain.items()}),
            )
        )
    return sorted(rows, key=lambda row: (row.name != PLAIN, -row.target, -row.mean))


def _gap(own: dict[int, float], fewer: dict[int, float], plain: dict[int, float]) -> tuple[float, float] | None:
    """(own - fewer) / (plain - fewer), of means over the seeds that all have, and its standard error.

    The denominator is the mean gap: seed by seed it can be near 0. The error is that of a ratio of paired means, to
    first order: the spread of own - fewer - ratio * (plain - fewer) over the seeds, divided by the mean gap.
    """
    seeds = sorted(own.keys() & fewer.keys() & plain.keys())
    if not seeds or fewer == plain:
        return None
    gained = [own[seed] - fewer[seed] for seed in seeds]
    gaps = [plain[seed] - fewer[seed] for seed in seeds]
    if mean(gaps) <= 0:
        return None
    ratio = mean(gained) / mean(gaps)
    left = [gain - ratio * gap for gain, gap in zip(gained, gaps, strict=True)]
    error = stdev(left) / math.sqrt(len(left)) / mean(gaps) if len(left) > 1 else math.nan
    return ratio, error


def write_markdown(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| entry | cost | accuracy %, mean ± sd (seeds) | gap recovered ± s.e. | wall time / plain |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        gap = "" if row.gap is None or row.name == FEWER else _with_error(*row.gap)
        time = "" if row.time is None else f"{row.time:.2f}"
        accuracy = f"{row.mean:.2f} ± {row.deviation:.2f} ({len(row.accuracies)})"
        lines.append(f"| {row.name} | {row.cost:.3f} | {accuracy} | {gap} | {time} |")
    return "\n".join(lines) + "\n"


def _with_error(value: float, error: float) -> str:
    return f"{value:.2f}" if math.isnan(error) else f"{value:.2f} ± {error:.2f}"
