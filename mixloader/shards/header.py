"""The size of an encoded image, read from its header alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

HEADER_BYTES = 65536
"""Most headers end within this many bytes; the whole image is read only where they do not."""

_ORIENTATION = 0x0112
_TRANSPOSED = (5, 6, 7, 8)


def upright_size(data: bytes | memoryview) -> tuple[int, int]:
    """The (width, height) in pixels of an encoded image once its EXIF orientation is applied.

    Returns (0, 0) when the header cannot be read; nothing is raised, so that one bad image stops no set.
    """
    for part in (data[:HEADER_BYTES], data) if len(data) > HEADER_BYTES else (data,):
        size = _size(part)
        if size is not None:
            return size
    return 0, 0


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """The (width, height) in pixels of an opened image, not yet decoded, once its EXIF orientation is applied."""
    width, height = image.size
    return (height, width) if _orientation(image) in _TRANSPOSED else (width, height)


def _size(data: bytes | memoryview) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return oriented_size(image)
    except Exception:  # Pillow's readers raise a dozen types (SyntaxError, struct.error, ...) on damaged headers
        return None


def _orientation(image: Image.Image) -> int:
    from PIL import Image

    if image.format == "PNG":  # getexif() would decode the whole of a PNG in search of a late chunk
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
    else:
        exif = image.getexif()
    return int(exif.get(_ORIENTATION, 1))
