"""The result for people: tables in Markdown, which are read in a terminal too, and notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mixloader.tools.bench.loader.plans import PLANS
from mixloader.tools.bench.loader.process import SETTINGS
from mixloader.tools.bench.loader.race import Cell, Entry, Ratio
from mixloader.tools.bench.table import markdown_table

_HEADER = ("", "composites/s", "images/s", "of the best rival (least to most)", "of the limit", "difference / 255")
_KINDS = ("ours", "rival", "other", "limit")


def write_up(cells: Sequence[Cell], data: str) -> str:
    """Everything in Markdown.

    Args:
        cells: at least one.
        data: what was drawn from, in words.
    """
    settings = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
    said = "".join(f"- {note}\n" for note in [*notes(cells), f"In the environment of all: {settings}."])
    return f"Data: {data}.\n\n" + "\n".join([*map(table, cells), said])


def table(cell: Cell) -> str:
    """The figures of one plan on one number of threads, by kind, the fastest of a kind first."""
    entries = sorted(cell.entries, key=lambda entry: (_KINDS.index(entry.contestant.kind), -entry.rate))
    threads = f"{cell.threads} thread{'s' * (cell.threads > 1)}"
    title = f"{cell.plan}: {PLANS[cell.plan][0]}; {threads}, {cell.canvases_per_batch} canvases a batch"
    return markdown_table(title, _HEADER, [_row(cell, entry) for entry in entries])


def _row(cell: Cell, entry: Entry) -> tuple[str, ...]:
    if not entry.rates:
        return (entry.contestant.name, "no figures", "", "", "", "")
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
    """What the names in the tables do not say, and why who has no figures has none."""
    entries = [entry for cell in cells for entry in cell.entries]
    said = _grouped((note, e.contestant.name) for e in entries if e.rates for note in e.contestant.notes)
    failed = _grouped((e.error or "", e.contestant.name) for e in entries if not e.rates)
    return [
        *(f"{'; '.join(names)}: {note}." for note, names in said.items()),
        *(f"No figures for {'; '.join(names)}: {error or 'no round was run'}" for error, names in failed.items()),
    ]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The second ones of pairs by the first, each once, in order."""
    groups: dict[str, list[str]] = {}
    for first, second in pairs:
        group = groups.setdefault(first, [])
        if second not in group:
            group.append(second)
    return groups
