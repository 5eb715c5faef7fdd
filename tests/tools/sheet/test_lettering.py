"""Text on a contact sheet: letters, fonts, widths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import pytest
from PIL import ImageFont

from mixloader.tools.sheet import lettering
from mixloader.tools.sheet.lettering import fit, length, spell


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that a test allows; others are not there."""
    allowed: list[str] = []
    open_font = ImageFont.truetype

    def truetype(path: Any, size: float, **options: Any) -> ImageFont.FreeTypeFont:
        if isinstance(path, str) and path not in allowed:  # Pillow opens its own from memory
            raise OSError("cannot open resource")
        return open_font(path, size, **options)

    monkeypatch.setattr(ImageFont, "truetype", truetype)
    caches = (lettering.font, lettering._letter)
    for cache in caches:
        cache.cache_clear()
    yield allowed
    for cache in caches:
        cache.cache_clear()


MATPLOTLIBS = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


def test_letters_that_the_font_has_stay(fonts: list[str]) -> None:
    fonts.append(MATPLOTLIBS)
    assert lettering.font(12).getname() == ("DejaVu Sans", "Book")
    assert spell("Où est Łódź, Ёлка? … ½") == "Où est Łódź, Ёлка? … ½"
    assert spell("u\u0308ber") == "über"
    assert spell("鶴\n\t\x00") == "????"


def test_without_a_font_accents_go(fonts: list[str]) -> None:
    assert spell("Où est 鶴? · …") == "Ou est ?? · …"


def test_a_text_that_is_too_long_loses_its_end_or_its_beginning() -> None:
    text = "class folder/image 0001"
    assert fit(text, 12, length(text, 12)) == text
    for width in range(140):
        begin, end = fit(text, 12, width), fit(text, 12, width, keep_end=True)
        assert max(length(begin, 12), length(end, 12)) <= width
        assert begin == "" or (begin.endswith("…") and text.startswith(begin[:-1]))
        assert end == "" or (end.startswith("…") and text.endswith(end[1:]))
