"""The header of an encoded image: its size, without decoding it."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import TYPE_CHECKING

from mixloader.errors import UndecodableError

if TYPE_CHECKING:
    from PIL import Image

HEADER_BYTES = 65536
"""Most headers end within this many bytes; the whole image is read only where they do not."""

MOST_PIXELS = 1 << 27
"""An image of more is not decoded: a few kilobytes can ask for the memory of a machine."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What Pillow may take bytes for. Others of its formats start programs (EPS), or are none that images come in."""

ORIENTATION = 0x0112
"""The number of the orientation among Exif's tags."""

_TRANSPOSED = (5, 6, 7, 8)


def upright_size(data: bytes | memoryview) -> tuple[int, int]:
    """The (width, height) in pixels of an encoded image once its EXIF orientation is applied.

    Returns (0, 0) when the header cannot be read; nothing is raised, so that one bad image stops no set.
    """
    for part in (data[:HEADER_BYTES], data) if len(data) > HEADER_BYTES else (data,):
        size = size_in(part)
        if size is not None:
            return size
    return 0, 0


def open_image(data: bytes | memoryview) -> Image.Image:
    """Open an image with Pillow, without its warning of a large one; nothing is decoded.

    Raises:
        UndecodableError: these bytes are no image, or one of more than `MOST_PIXELS`.
    """
    from PIL import Image

    _allow_large_images()
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen types (SyntaxError, struct.error, ...)
        raise undecodable(error) from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UndecodableError(f"it has {width} x {height} pixels; of more than {MOST_PIXELS:,} none are decoded")
    return image


def undecodable(error: Exception) -> UndecodableError:
    """What Pillow raised, as one line."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # its text only has the address of the memory
        return UndecodableError(f"it is no image of a known format ({', '.join(FORMATS)})")
    return UndecodableError(f"{type(error).__name__}: {' '.join(str(error).split())}")


@cache
def _allow_large_images() -> None:
    """Once for the process, behind the filters that a user sets: `warnings.catch_warnings` is not thread-safe."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """The (width, height) in pixels of an opened image, not yet decoded, once its EXIF orientation is applied."""
    width, height = image.size
    return (height, width) if _orientation(image) in _TRANSPOSED else (width, height)


def size_in(data: bytes | memoryview) -> tuple[int, int] | None:
    """As `upright_size`, of what may be only the beginning of an image; None when it cannot be read from that."""
    try:
        with open_image(data) as image:
            return oriented_size(image)
    except Exception:  # an UndecodableError, or what Pillow raises for damaged Exif data
        return None


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG":  # getexif() would decode the whole of a PNG in search of a late chunk
        return orientation_in(image.info.get("exif", b""))
    return int(image.getexif().get(ORIENTATION, 1))


def orientation_in(exif: bytes) -> int:
    """The orientation in Exif data, 1 to 8; 1 is upright.

    Raises:
        Exception: whatever Pillow raises for damaged data.
    """
    from PIL import Image

    found = Image.Exif()
    found.load(exif)
    return int(found.get(ORIENTATION, 1))
