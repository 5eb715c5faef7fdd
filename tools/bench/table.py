"""A table in Markdown, which reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Lines of text as wide as the header; the first column names what the others are figures of."""
    table = [tuple(header), ("---", *["---:"] * (len(header) - 1)), *map(tuple, lines)]
    width = [max(len(line[column]) for line in table) for column in range(len(header))]
    rows = [
        (line[0].ljust(width[0]), *(text.rjust(wide) for text, wide in zip(line[1:], width[1:], strict=True)))
        for line in table
    ]
    return f"**{title}**\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)
