"""Text on a picture: its font, the letters that the font has, and what fits into a width."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

_DEJAVU = "DejaVuSans.ttf"
_NO_LETTER = "\uffff"  # no font has one for it: drawn as whatever stands in for a missing letter


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans where there is one, as it has the letters of most languages; else Pillow's own, of plain ones."""
    for path in _font_files():
        with suppress(OSError):
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


def _font_files() -> Iterator[str]:
    yield _DEJAVU  # wherever the system keeps its fonts
    with suppress(ImportError):
        import matplotlib

        yield str(Path(matplotlib.get_data_path(), "fonts", "ttf", _DEJAVU))


def spell(text: str) -> str:
    """The text in letters that the font has: accents go where it must be, and '?' stands for all others."""
    return "".join(_letter(c) for c in unicodedata.normalize("NFC", text))


@lru_cache(maxsize=4096)
def _letter(c: str) -> str:
    plain = "".join(part for part in unicodedata.normalize("NFKD", c) if not unicodedata.combining(part))
    return next((letters for letters in (c, plain) if letters and all(map(_is_there, letters))), "?")


def _is_there(c: str) -> bool:
    return c.isprintable() and _drawn(c) != _drawn(_NO_LETTER)


def _drawn(c: str) -> tuple[tuple[int, int], bytes]:
    mask = font(16).getmask(c)
    return mask.size, bytes(mask)


def length(text: str, size: int) -> float:
    """Width of a line, pixels."""
    return float(font(size).getlength(text))


def fit(text: str, size: int, width: float, *, keep_end: bool = False) -> str:
    """The text, shortened with an ellipsis at its end, or at its beginning, to `width` pixels."""
    if length(text, size) <= width:
        return text
    for n in range(len(text) - 1, 0, -1):
        shorter = f"…{text[-n:].lstrip()}" if keep_end else f"{text[:n].rstrip()}…"
        if length(shorter, size) <= width:
            return shorter
    return ""


def wrap(parts: list[str], size: int, width: float) -> list[str]:
    """The parts on as few lines as they fit on."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}   ·   {part}"
        if length(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return [fit(line, size, width) for line in lines]
