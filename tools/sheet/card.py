"""The card: one composite of a plan, drawn with its borders and with what it holds below it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mixloader.tools.sheet.excerpt import Box, Constituent
from mixloader.tools.sheet.lettering import fit, font, length, spell

Colour = tuple[int, int, int]

BACKGROUND, BRIGHT, DIM = (18, 20, 26), (236, 238, 244), (150, 156, 172)
NORMAL, SMALL = 14, 12
"""Sizes of letters, pixels."""

_CARD, _BORDER, _ALARM = (30, 33, 42), (52, 56, 69), (255, 107, 107)
_SLOTS = ((255, 190, 70), (88, 182, 255), (122, 219, 143), (244, 130, 178))
_PADDING, _HATCH = 12, 8
_ENTRY = 42  # height of a constituent's two lines below its canvas


def draw_card(canvas: npt.NDArray[np.uint8], rows: list[Constituent], zoom: int) -> Image.Image:
    """A canvas, uint8 [S, S, 3], enlarged by `zoom`, with what it holds below it."""
    side = len(canvas) * zoom
    width, height = side + 2 * _PADDING, side + 2 * _PADDING + len(rows) * _ENTRY + 2
    card = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), 10, fill=_CARD, outline=_BORDER)
    card.paste(_draw_canvas(canvas, rows, zoom), (_PADDING, _PADDING))
    for i, row in enumerate(rows):
        top = _PADDING + side + 10 + i * _ENTRY
        draw.rounded_rectangle((_PADDING, top + 2, _PADDING + 11, top + 13), 2, fill=_colour(row))
        left, right = _PADDING + 20, width - _PADDING
        _write_line(draw, (left, right, top), row.name, row.share, NORMAL, (BRIGHT, BRIGHT))
        note = ("cannot be decoded", _ALARM) if row.broken else (row.facts, DIM)
        _write_line(draw, (left, right, top + 19), row.key, note[0], SMALL, (DIM, note[1]), keep_end=True)
    return card


def _colour(row: Constituent) -> Colour:
    return _SLOTS[row.slot % len(_SLOTS)]


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
    room = right - left - length(figure, size) - 12
    draw.text((left, top), fit(spell(text), size, room, keep_end=keep_end), colours[0], font(size))
    draw.text((right, top), figure, colours[1], font(size), anchor="ra")


def _draw_canvas(canvas: npt.NDArray[np.uint8], rows: list[Constituent], zoom: int) -> Image.Image:
    """A canvas, enlarged, with the borders of its regions and a chip in each; what is not drawn is hatched."""
    pixels = canvas.repeat(zoom, axis=0).repeat(zoom, axis=1)
    regions = [_enlarged(row.region, zoom) for row in rows]
    empty = np.ones(pixels.shape[:2], np.bool_)
    for row, (x0, y0, x1, y1) in zip(rows, regions, strict=True):
        empty[y0:y1, x0:x1] &= row.broken
    diagonal = np.add.outer(np.arange(len(pixels)), np.arange(len(pixels)))[..., None]
    hatch = np.where(diagonal // _HATCH % 2 == 0, np.array(_BORDER, np.uint8), np.array(_CARD, np.uint8))
    image = Image.fromarray(np.where(empty[..., None], hatch, pixels)).convert("RGBA")
    overlay = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(overlay)
    below: dict[Box, int] = {}  # the rows of a blend share a region: their chips stand on each other
    for row, region in zip(rows, regions, strict=True):
        x0, y0, x1, y1 = region
        if region not in below:
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(*_colour(row), 255), width=2)
        below[region] = _draw_chip(draw, row, region, y1 - below.get(region, 6))
    return Image.alpha_composite(image, overlay).convert("RGB")


def _enlarged(region: Box, zoom: int) -> Box:
    x0, y0, x1, y1 = region
    return x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom


def _draw_chip(draw: ImageDraw.ImageDraw, row: Constituent, region: Box, bottom: int) -> int:
    """Name and share in the lower left corner of a region, above `bottom`; how high up from its border that reaches.

    On one line where that fits, else on two; where not even three letters of the name fit, the share stands alone.
    """
    x0, y0, x1, y1 = region
    room = x1 - x0 - 26
    whole = spell(row.name)
    lines = [f"{whole}  {row.share}"]
    if length(lines[0], SMALL) > room:
        name = fit(whole, SMALL, room)
        lines = [name, row.share] if len(name) > 3 or name == whole else [row.share]
    widest = max(length(line, SMALL) for line in lines)
    height = 15 * len(lines) + 5
    if widest > room + 8 or bottom - height < y0 + 4:
        return y1 - bottom  # the entry below the canvas says it
    box = (x0 + 6, bottom - height, x0 + 6 + int(widest) + 14, bottom)
    draw.rounded_rectangle(box, 4, fill=(12, 13, 18, 190))
    for i, line in enumerate(lines):
        draw.text((box[0] + 7, box[1] + 3 + 15 * i), line, _ALARM if row.broken else BRIGHT, font(SMALL))
    return y1 - box[1] + 4
