"""The contact sheet: composites of a plan, drawn as a picture that says who shares each canvas, and with how much."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.pipelines.pillow import PillowPipeline
from mixloader.plan import Plan
from mixloader.shards import ShardSet

Ints = npt.NDArray[np.int64]
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

_BACKGROUND, _CARD, _BORDER = (18, 20, 26), (30, 33, 42), (52, 56, 69)
_BRIGHT, _DIM, _ALARM = (236, 238, 244), (150, 156, 172), (255, 107, 107)
_SLOTS = ((255, 190, 70), (88, 182, 255), (122, 219, 143), (244, 130, 178))
_KINDS = {1: "whole", 2: "pairs", 3: "threes", 4: "fours"}

_MARGIN, _GAP, _PADDING = 32, 18, 12
_TITLE, _NORMAL, _SMALL = 24, 14, 12  # letters, pixels
_ENTRY = 42  # height of a constituent's two lines below its canvas
_READABLE = 300  # smaller canvases are enlarged to about this side
_COLUMNS, _WIDEST = 4, 1500  # as many columns as fit in this width
_HATCH = 8


@dataclass(frozen=True)
class _Constituent:
    """What the sheet says of one row of the plan; the region in pixels of the sheet, within its canvas."""

    name: str
    key: str
    share: str
    loss: str
    slot: int
    region: Box
    broken: bool

    @property
    def colour(self) -> Colour:
        return _SLOTS[self.slot % len(_SLOTS)]


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
    chosen = choose_canvases(plan, count)
    excerpt = _take(plan, chosen)
    pipeline = PillowPipeline(shards)
    try:
        drawn = pipeline.draw(excerpt)
        canvases = drawn.canvases.round().byte().numpy()
    finally:
        pipeline.close()
    zoom = max(1, round(_READABLE / plan.canvas_size))
    composites = _describe(shards, excerpt, losses, set(drawn.failed), zoom)
    cards = [_draw_card(canvas, rows, zoom) for canvas, rows in zip(canvases, composites, strict=True)]
    return _lay_out(cards, title, _facts(shards, plan, len(chosen)))


def choose_canvases(plan: Plan, count: int) -> Ints:
    """Up to `count` canvases, int64 ascending by the number of their constituents, most first; no empty ones.

    Every kind (alone, in pairs, threes, fours) is shown, those that share twice as often as whole ones, and each
    kind is picked from all over the epoch.
    """
    canvas, members = np.unique(plan.canvas, return_counts=True)
    kinds = {int(k): canvas[members == k] for k in np.unique(members)[::-1]}
    turns = [*kinds, *(k for k in kinds if k > 1)]
    quota = dict.fromkeys(kinds, 0)
    while (left := count - sum(quota.values())) > 0 and any(quota[k] < len(kinds[k]) for k in kinds):
        for k in [k for k in turns if quota[k] < len(kinds[k])][:left]:
            quota[k] += quota[k] < len(kinds[k])
    picked = [kinds[k][((np.arange(n) + 0.5) * len(kinds[k]) / n).astype(np.int64)] for k, n in quota.items() if n]
    return np.concatenate(picked)


def _take(plan: Plan, canvases: Ints) -> Plan:
    """A plan of one batch that holds these canvases alone, in this order."""
    rows = np.concatenate([np.arange(*np.searchsorted(plan.canvas, (c, c + 1))) for c in canvases])
    members = np.bincount(plan.canvas[rows], minlength=int(canvases.max()) + 1)[canvases]
    kept = {name: getattr(plan, name)[rows] for name in ("slot", "sample", "region", "window", "flip")}
    kept |= {"weight": plan.weight[rows], "opacity": plan.opacity[rows]}
    kept["canvas"] = np.repeat(np.arange(len(canvases)), members)
    return replace(plan, batches=1, canvases_per_batch=len(canvases), **kept)


def _describe(
    shards: ShardSet, plan: Plan, losses: Losses | None, failed: set[int], zoom: int
) -> list[list[_Constituent]]:
    """The constituents of every canvas of `plan`."""
    composites: list[list[_Constituent]] = [[] for _ in range(plan.canvases)]
    for row, (number, share) in enumerate(zip(plan.sample.tolist(), plan.shares.tolist(), strict=True)):
        sample = shards[number]
        known = losses is not None and losses.known[number]
        weight = f" · weight {plan.weight[row]:g}" if plan.weight[row] != 1 else ""
        x0, y0, x1, y1 = (int(edge) * zoom for edge in plan.region[row])
        constituent = _Constituent(
            name=_plain(shards.classes[sample.label]),
            key=_plain(sample.key),
            share=f"{100 * share:.0f} %",
            loss=(f"loss {losses.loss[number]:.2f}" if losses is not None and known else "loss -") + weight,
            slot=int(plan.slot[row]),
            region=(x0, y0, x1, y1),
            broken=number in failed,
        )
        composites[int(plan.canvas[row])].append(constituent)
    return composites


def _draw_card(canvas: npt.NDArray[np.uint8], rows: list[_Constituent], zoom: int) -> Image.Image:
    """A canvas with what it holds below it."""
    side = len(canvas) * zoom
    width, height = side + 2 * _PADDING, side + 2 * _PADDING + len(rows) * _ENTRY + 2
    card = Image.new("RGB", (width, height), _BACKGROUND)
    ImageDraw.Draw(card).rounded_rectangle((0, 0, width - 1, height - 1), 10, fill=_CARD, outline=_BORDER)
    card.paste(_draw_canvas(canvas, rows, zoom), (_PADDING, _PADDING))
    draw = ImageDraw.Draw(card)
    for i, row in enumerate(rows):
        top = _PADDING + side + 10 + i * _ENTRY
        draw.rounded_rectangle((_PADDING, top + 2, _PADDING + 11, top + 13), 2, fill=row.colour)
        left, right = _PADDING + 20, width - _PADDING
        _write_line(draw, (left, right, top), row.name, row.share, _NORMAL, (_BRIGHT, _BRIGHT))
        note = ("cannot be decoded", _ALARM) if row.broken else (row.loss, _DIM)
        _write_line(draw, (left, right, top + 19), row.key, note[0], _SMALL, (_DIM, note[1]), keep_end=True)
    return card


def _write_line(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int, int],
    text: str,
    figure: str,
    size: int,
    colours: tuple[Colour, Colour],
    *,
    keep_end: bool = False,
) -> None:
    """A text at the left edge, shortened where it must be, and a figure at the right one."""
    left, right, top = place
    room = right - left - _length(figure, size) - 12
    draw.text((left, top), _fit(text, size, room, keep_end=keep_end), colours[0], _font(size))
    draw.text((right, top), figure, colours[1], _font(size), anchor="ra")


def _draw_canvas(canvas: npt.NDArray[np.uint8], rows: list[_Constituent], zoom: int) -> Image.Image:
    """A canvas, enlarged, with the borders of its regions and a chip in each; what is not drawn is hatched."""
    pixels = canvas.repeat(zoom, axis=0).repeat(zoom, axis=1)
    empty = np.ones(pixels.shape[:2], np.bool_)
    for row in rows:
        x0, y0, x1, y1 = row.region
        empty[y0:y1, x0:x1] &= row.broken
    diagonal = np.add.outer(np.arange(len(pixels)), np.arange(len(pixels)))[..., None]
    hatch = np.where(diagonal // _HATCH % 2 == 0, np.array(_BORDER, np.uint8), np.array(_CARD, np.uint8))
    image = Image.fromarray(np.where(empty[..., None], hatch, pixels)).convert("RGBA")
    overlay = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(overlay)
    below: dict[Box, int] = {}  # the rows of a blend share a region: their chips stand on each other
    for row in rows:
        x0, y0, x1, y1 = row.region
        if row.region not in below:
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(*row.colour, 255), width=2)
        below[row.region] = _draw_chip(draw, row, y1 - below.get(row.region, 6))
    return Image.alpha_composite(image, overlay).convert("RGB")


def _draw_chip(draw: ImageDraw.ImageDraw, row: _Constituent, bottom: int) -> int:
    """Name and share in the lower left corner of a region, above `bottom`; how high up from its border that reaches.

    On one line where that fits, else on two; where not even three letters of the name fit, the share stands alone.
    """
    x0, y0, x1, y1 = row.region
    room = x1 - x0 - 26
    lines = [f"{row.name}  {row.share}"]
    if _length(lines[0], _SMALL) > room:
        name = _fit(row.name, _SMALL, room)
        lines = [name, row.share] if len(name) > 3 or name == row.name else [row.share]
    widest = max(_length(line, _SMALL) for line in lines)
    height = 15 * len(lines) + 5
    if widest > room + 8 or bottom - height < y0 + 4:
        return y1 - bottom  # the entry below the canvas says it
    box = (x0 + 6, bottom - height, x0 + 6 + int(widest) + 14, bottom)
    draw.rounded_rectangle(box, 4, fill=(12, 13, 18, 190))
    for i, line in enumerate(lines):
        draw.text((box[0] + 7, box[1] + 3 + 15 * i), line, _ALARM if row.broken else _BRIGHT, _font(_SMALL))
    return y1 - box[1] + 4


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
    lines = _wrap(facts, inner)
    top = _MARGIN + 54 + 22 * len(lines)
    height = top + sum(max(card.height for card in row) + _GAP for row in rows) - _GAP + _MARGIN
    sheet = Image.new("RGB", (inner + 2 * _MARGIN, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    size = next((size for size in (_TITLE, 20, 17) if _length(_plain(title), size) <= inner), _NORMAL)
    draw.text((_MARGIN, _MARGIN + 20), _fit(_plain(title), size, inner), _BRIGHT, _font(size), anchor="ls")
    for i, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + 34 + 22 * i), line, _DIM, _font(_NORMAL))
    for row in rows:
        for i, card in enumerate(row):
            sheet.paste(card, (_MARGIN + i * step, top))
        top += max(card.height for card in row) + _GAP
    return sheet


def _wrap(parts: list[str], width: int) -> list[str]:
    """The parts on as few lines as they fit on."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}   ·   {part}"
        if _length(longer, _NORMAL) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return [_fit(line, _NORMAL, width) for line in lines]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> float:
    return float(_font(size).getlength(text))


def _fit(text: str, size: int, width: float, *, keep_end: bool = False) -> str:
    """The text, shortened with an ellipsis at its end, or at its beginning, to `width` pixels."""
    if _length(text, size) <= width:
        return text
    for n in range(len(text) - 1, 0, -1):
        shorter = f"…{text[-n:].lstrip()}" if keep_end else f"{text[:n].rstrip()}…"
        if _length(shorter, size) <= width:
            return shorter
    return ""


def _plain(text: str) -> str:
    """The text in the letters that Pillow's own font has: accents go, what has no plain letter becomes '?'."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() or c in "·…" else "?" for c in letters)
