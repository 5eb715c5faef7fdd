"""The result for people: a table in the terminal, the same in Markdown, and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mixloader.tools.bench.loader.plans import PLANS
from mixloader.tools.bench.loader.race import Cell, Entry, Ratio

if TYPE_CHECKING:
    from rich.table import Table

HEADER = ("", "composites/s", "images/s", "to the best rival", "of the limit", "difference / 255")
_KINDS = ("ours", "rival", "other", "limit")


def ranked(cell: Cell) -> list[Entry]:
    """The entries by kind, the fastest of a kind first."""
    return sorted(cell.entries, key=lambda entry: (_KINDS.index(entry.contestant.kind), -entry.rate))


def title(cell: Cell) -> str:
    """What a cell is, in words."""
    threads = f"{cell.threads} thread{'s' * (cell.threads > 1)}"
    return f"{cell.plan}: {PLANS[cell.plan][0]}, {threads}, {cell.canvases_per_batch} canvases a batch"


def row(cell: Cell, entry: Entry) -> tuple[str, ...]:
    """One line of the table, as wide as `HEADER`; a contestant without figures has its error in the second place."""
    if not entry.rates:
        return (entry.contestant.name, entry.error or "no figures", "", "", "", "")
    to_best, to_limit = Ratio.of(entry, cell.best_rival), Ratio.of(entry, cell.limit(entry))
    compared = entry.contestant.kind != "limit"
    return (
        entry.contestant.name,
        f"{entry.rate:,.0f}",
        f"{cell.images_per_second(entry):,.0f}",
        f"{to_best.median:.2f} ({to_best.least:.2f} to {to_best.most:.2f})" if to_best else "",
        f"{100 * to_limit.median:.0f} %" if to_limit and compared else "",
        "" if entry.difference is None else f"{255 * entry.difference:.2f}",
    )


def notes(cells: Sequence[Cell]) -> list[str]:
    """What the names in the table do not say."""
    said = {
        f"{e.contestant.name}: {e.contestant.note}": None
        for cell in cells
        for e in ranked(cell)
        if e.contestant.note and e.rates
    }
    wide = [e.contestant for cell in cells for e in cell.entries if e.contestant.tolerance and e.rates]
    for contestant in dict.fromkeys(c.name for c in wide if c.kind == "rival" and (c.tolerance or 0) > 1):
        said[f"{contestant}: FFmpeg scales colours apart from brightness; 1.5 / 255 are allowed, not 1"] = None
    return list(said)


def tables(cells: Sequence[Cell]) -> list[Table]:
    """A table for the terminal for each cell."""
    from rich.table import Table

    made = []
    for cell in cells:
        table = Table(*HEADER, title=title(cell), title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for entry in ranked(cell):
            table.add_row(*row(cell, entry))
        made.append(table)
    return made


def markdown(cells: Sequence[Cell], data: str) -> str:
    """All tables in Markdown, with what was drawn from."""
    parts = [f"Data: {data}.\n"]
    for cell in cells:
        lines = [HEADER, ("---", *["---:"] * (len(HEADER) - 1)), *(row(cell, entry) for entry in ranked(cell))]
        table = "\n".join("| " + " | ".join(text.replace("|", "/") for text in line) + " |" for line in lines)
        parts.append(f"**{title(cell)}**\n\n{table}\n")
    parts += [f"- {note}" for note in notes(cells)]
    return "\n".join(parts) + "\n"


def draw_chart(cells: Sequence[Cell], path: Path) -> None:
    """Write a PNG: composites a second as bars, a panel for each cell, and a mark where the limit is."""
    from mixloader.tools.charts import new_figure, save_figure

    plans, threads = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("plan", "threads"))
    most = max(len(_drawn(cell)) for cell in cells)
    figure = new_figure(6.2 * len(plans), (0.9 + 0.26 * most) * len(threads) + 0.5)
    grid = figure.subplots(len(threads), len(plans), squeeze=False)
    for cell in cells:
        axes = grid[threads.index(cell.threads)][plans.index(cell.plan)]
        _draw_cell(axes, cell)
        if cell.plan == plans[0]:
            axes.set_ylabel(f"{cell.threads} thread{'s' * (cell.threads > 1)}")
        if cell.threads == threads[0]:
            axes.set_title(f"{cell.plan}: {PLANS[cell.plan][0]}", fontsize="medium")
        if cell.threads == threads[-1]:
            axes.set_xlabel("composites a second")
    save_figure(figure, path)


_COLOURS = {"ours": "#1b6ca8", "rival": "#9aa5b1", "other": "#dcd0b4", "limit": "white"}


def _drawn(cell: Cell) -> list[Entry]:
    return [entry for entry in ranked(cell) if entry.contestant.kind != "limit"]


def _draw_cell(axes: object, cell: Cell) -> None:
    from typing import Any, cast

    canvas, entries = cast(Any, axes), _drawn(cell)
    names = [e.contestant.name + (" (other pixels)" if e.contestant.kind == "other" else "") for e in entries]
    rates = [entry.rate for entry in entries]
    bars = canvas.barh(names, rates, color=[_COLOURS[entry.contestant.kind] for entry in entries], height=0.72)
    canvas.bar_label(bars, [f"{rate:,.0f}" if rate else "no figures" for rate in rates], padding=4, fontsize="small")
    for place, entry in enumerate(entries):
        if entry.rates:
            canvas.plot([min(entry.rates), max(entry.rates)], [place, place], color="black", linewidth=1)
        limit = cell.limit(entry)
        if entry.contestant.kind == "ours" and limit is not None and limit.rates:
            mark = canvas.plot([limit.rate] * 2, [place - 0.42, place + 0.42], color="#c0392b", linewidth=2)
            mark[0].set_label("limit: decoding and resizing alone" if not place else None)
    canvas.invert_yaxis()
    canvas.margins(x=0.16)
    canvas.spines[["top", "right"]].set_visible(False)
    if canvas.get_legend_handles_labels()[0]:
        canvas.legend(loc="lower right", fontsize="small", frameon=False)
