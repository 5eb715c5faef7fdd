"""The result as bars."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixloader.tools.bench.loader.plans import PLANS
from mixloader.tools.bench.loader.race import Cell, Entry
from mixloader.tools.charts import new_figure, save_figure

_COLOURS = {"ours": "#1b6ca8", "rival": "#9aa5b1", "other": "#dcc48e"}
_TEXT = {"ours": "white", "rival": "black", "other": "black"}
_WORDS = {"ours": "mixloader", "rival": "rivals, the same canvases", "other": "one image a canvas: other pixels"}
_LIMIT, _LIMIT_WORDS = "#c0392b", "limit: decoding and resizing alone"
_TITLE = 44  # letters of a line


def draw_chart(cells: Sequence[Cell], path: Path) -> None:
    """Write a PNG: composites a second, a panel for each plan and number of threads, and a mark where the limit is."""
    plans, threads = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("plan", "threads"))
    most = max(len(_drawn(cell)) for cell in cells)
    figure = new_figure(5.6 * len(plans) + 0.4, (0.8 + 0.24 * most) * len(threads) + 0.9)
    grid = figure.subplots(len(threads), len(plans), squeeze=False)
    for cell in cells:
        axes = grid[threads.index(cell.threads)][plans.index(cell.plan)]
        _draw_cell(axes, cell)
        if cell.plan == plans[0]:
            axes.set_ylabel(f"{cell.threads} thread{'s' * (cell.threads > 1)}", fontsize="large")
        if cell.threads == threads[0]:
            words = textwrap.fill(f"{cell.plan}: {PLANS[cell.plan][0]}", _TITLE)
            axes.set_title(words, fontsize="medium", pad=10)
        if cell.threads == threads[-1]:
            axes.set_xlabel("composites a second")
    _draw_legend(figure, {entry.contestant.kind for cell in cells for entry in cell.entries})
    save_figure(figure, path)


def _drawn(cell: Cell) -> list[Entry]:
    """Who gets a bar, the fastest first; who has no figures comes last."""
    return sorted((e for e in cell.entries if e.contestant.kind != "limit"), key=lambda entry: -entry.rate)


def _draw_cell(axes: Any, cell: Cell) -> None:
    entries = _drawn(cell)
    places, rates = range(len(entries)), [entry.rate for entry in entries]
    axes.set_yticks(places, [entry.contestant.name for entry in entries], fontsize="small")
    axes.barh(places, rates, color=[_COLOURS[entry.contestant.kind] for entry in entries], height=0.72)
    for place, entry in enumerate(entries):
        # At the foot of the bar: its end is crossed by lines.
        said, colour = f"{entry.rate:,.0f}" if entry.rates else "no figures", _TEXT[entry.contestant.kind]
        axes.annotate(
            said,
            (0, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=colour if entry.rates else "black",
        )
        if entry.rates:
            axes.plot([min(entry.rates), max(entry.rates)], [place, place], color="black", linewidth=1)
        limit = cell.limit(entry)
        if entry.contestant.kind == "ours" and limit is not None and limit.rates:
            axes.plot([limit.rate] * 2, [place - 0.4, place + 0.4], color=_LIMIT, linewidth=2)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05 * max([1.0, *(rate for entry in cell.entries for rate in entry.rates)]))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_legend(figure: Any, kinds: set[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=_COLOURS[kind], label=_WORDS[kind]) for kind in _COLOURS if kind in kinds]
    handles.append(Line2D([], [], color="black", linewidth=1, label="slowest to fastest round"))
    if "limit" in kinds:
        handles.append(Line2D([], [], color=_LIMIT, linewidth=2, label=_LIMIT_WORDS))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small", frameon=False)
