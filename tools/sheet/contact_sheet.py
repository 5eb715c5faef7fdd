"""The contact sheet: composites of a plan, drawn as a picture that says who shares each canvas, and with how much."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.pipelines.pillow import PillowPipeline
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.tools.sheet.card import BACKGROUND, BRIGHT, DIM, NORMAL, draw_card
from mixloader.tools.sheet.excerpt import choose_canvases, describe
from mixloader.tools.sheet.lettering import fit, font, length, spell, wrap

_KINDS = {1: "whole", 2: "pairs", 3: "threes", 4: "fours"}
_MARGIN, _GAP, _TITLE = 32, 18, 24
_READABLE = 300  # smaller canvases are enlarged to about this side
_COLUMNS, _WIDEST = 4, 1500  # as many columns as fit in this width


def draw_contact_sheet(
    shards: ShardSet, plan: Plan, *, losses: Losses | None = None, title: str, count: int = 12
) -> Image.Image:
    """Draw composites of each kind in a plan on one picture.

    Args:
        shards: the set that the plan was made for.
        plan: what to draw from.
        losses: shown beside each constituent where they are known.
        title: the header's first line; the second one is made from the plan.
        count: the most composites that are shown.

    Returns:
        RGB.

    Raises:
        MixloaderError: the plan draws nothing, or draws samples that the set does not have.
    """
    if not len(plan):
        raise MixloaderError("this plan draws nothing: every sample sits out")
    if int(plan.sample.max()) >= len(shards):
        raise MixloaderError(
            f"this plan draws sample {int(plan.sample.max())}, but {shards.path} has {len(shards)} samples: give the "
            "shards that it was made for"
        )
    excerpt = plan.take(choose_canvases(plan, count))
    pipeline = PillowPipeline(shards)
    try:
        drawn = pipeline.draw(excerpt)
        canvases = drawn.canvases.round().byte().numpy()
    finally:
        pipeline.close()
    composites = describe(shards, excerpt, losses, set(drawn.failed))
    zoom = max(1, round(_READABLE / plan.canvas_size))
    cards = [draw_card(canvas, rows, zoom) for canvas, rows in zip(canvases, composites, strict=True)]
    return _lay_out(cards, spell(title), _facts(shards, plan, len(cards)))


def _facts(shards: ShardSet, plan: Plan, shown: int) -> list[str]:
    """The header below its title, in parts."""
    canvas, members = np.unique(plan.canvas, return_counts=True)
    # A step of plain training has a canvas for every sample, also for those that sit out and are in no row.
    drawn = int(np.bincount(plan.canvas // plan.canvases_per_batch).max())
    step = max(drawn, round(len(shards) / plan.batches))
    kinds = (f"{int((members == k).sum()):,} {_KINDS.get(int(k), f'of {k}')}" for k in np.unique(members))
    return [
        f"{plan.canvases_per_batch} canvases a batch",
        f"{plan.canvas_size} x {plan.canvas_size} pixels",
        f"cost {plan.canvases_per_batch * (plan.canvas_size / plan.image_size) ** 2 / step:.2f} of plain training",
        f"{len(canvas):,} canvases in all: {', '.join(kinds)}; {shown} shown",
    ]


def _lay_out(cards: list[Image.Image], title: str, facts: list[str]) -> Image.Image:
    """Cards in rows below the header, each row as high as its highest card."""
    step = cards[0].width + _GAP
    columns = max(1, min(_COLUMNS, len(cards), (_WIDEST - 2 * _MARGIN + _GAP) // step))
    rows = [cards[i : i + columns] for i in range(0, len(cards), columns)]
    inner = max(columns * step - _GAP, 480)
    lines = wrap(facts, NORMAL, inner)
    top = _MARGIN + 54 + 22 * len(lines)
    height = top + sum(max(card.height for card in row) + _GAP for row in rows) - _GAP + _MARGIN
    sheet = Image.new("RGB", (inner + 2 * _MARGIN, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    size = next((size for size in (_TITLE, 20, 17) if length(title, size) <= inner), NORMAL)
    draw.text((_MARGIN, _MARGIN + 20), fit(title, size, inner), BRIGHT, font(size), anchor="ls")
    for i, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + 34 + 22 * i), line, DIM, font(NORMAL))
    for row in rows:
        for i, card in enumerate(row):
            sheet.paste(card, (_MARGIN + i * step, top))
        top += max(card.height for card in row) + _GAP
    return sheet
