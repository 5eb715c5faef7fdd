"""The Pareto plot: accuracy against cost, with the spread over seeds."""

from __future__ import annotations

from pathlib import Path

from mixloader.tools.bench.methods.scoreboard import FEWER, PLAIN, Row
from mixloader.tools.charts import new_figure, save_figure

_OURS = "MixTrain"


def draw_pareto(rows: list[Row], title: str, path: Path) -> None:
    """Write a PNG. Entries of one name at several costs become a line; bars are standard deviations.

    Args:
        rows: of `score_runs`.
        title: above the plot.
        path: where the picture goes.
    """
    figure = new_figure(8.5, 5)
    axes = figure.subplots()
    lines: dict[str, list[Row]] = {}
    for row in rows:  # plain is where the line of fewer epochs begins
        lines.setdefault(FEWER if row.name == PLAIN else row.name, []).append(row)
    for number, (name, line) in enumerate(sorted(lines.items(), key=lambda item: item[0] != FEWER)):
        line.sort(key=lambda row: row.cost)
        axes.errorbar(
            [row.cost for row in line],
            [row.mean for row in line],
            [row.deviation for row in line],
            label=name,
            marker="osD^vPX<>*"[number % 10],
            color="black" if name == FEWER else f"C{number % 10}",
            linewidth=2.5 if name.startswith(_OURS) else 1.2,
            linestyle="--" if name == FEWER else "-",
            capsize=3,
        )
    axes.set(xlabel="whole-image passes / plain training's", ylabel="accuracy, %", title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)
