"""The header of an encoded image: its size, without decoding it."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from functools import cache
from typing import IO, TYPE_CHECKING

from mixloader.errors import UndecodableError

if TYPE_CHECKING:
    from PIL import Image, ImageFile

HEADER_BYTES = 65536
"""Most headers end within this many bytes; the whole image is read only where they do not."""

MOST_PIXELS = 1 << 27
"""An image of more is not decoded: a few kilobytes can ask for the memory of a machine."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What Pillow may take bytes for. Others of its formats start programs (EPS), or are none that images come in."""

ORIENTATION = 0x0112
"""The number of the orientation among Exif's tags."""

_TILE_WIDTH, _TILE_LENGTH = 322, 323  # of TIFF's tags

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
    """Open an image with Pillow; nothing is decoded. The limit is ours, whatever `Image.MAX_IMAGE_PIXELS` is.

    Raises:
        UndecodableError: these bytes are no image, or one of more than `MOST_PIXELS`.
    """
    _refuse_bomb(_webp_size(data))  # of these two Pillow may take the memory when it opens them
    _refuse_bomb(_gif_size(data))
    try:
        image = _identify(io.BytesIO(data))
        tile = _tile_size(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen types (SyntaxError, struct.error, ...)
        raise undecodable(error) from error
    if image is None:
        raise UndecodableError(f"it is no image of a known format ({', '.join(FORMATS)})")
    _refuse_bomb(image.size)
    _refuse_bomb(tile)
    return image


def _identify(file: IO[bytes]) -> Image.Image | None:
    """What `Image.open` does, but for its limit: it warns or fails by what the process has set for all."""
    prefix = file.read(16)
    for factory, accept in _readers():
        accepted = accept is None or accept(prefix)
        if not accepted or isinstance(accepted, str):  # or why this Pillow cannot read the format
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # Pillow's way to say: not this format
            continue
    return None


def _tile_size(image: Image.Image | None) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which may be larger than the picture; (0, 0) where there are none."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_TILE_WIDTH, 0)), int(tags.get(_TILE_LENGTH, 0))


_Factory = Callable[[IO[bytes], "str | bytes"], "ImageFile.ImageFile"]
_Accept = Callable[[bytes], "bool | str"]


@cache
def _readers() -> tuple[tuple[_Factory, _Accept | None], ...]:
    from PIL import (  # noqa: F401  (each registers its reader)
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    # Loading a large TIFF still warns. `warnings.catch_warnings` is not thread-safe: once, behind the user's filters.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
    return tuple(Image.OPEN[name] for name in FORMATS)


def _refuse_bomb(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise UndecodableError(f"it has {width} x {height} pixels; of more than {MOST_PIXELS:,} none are decoded")


def _webp_size(data: bytes | memoryview) -> tuple[int, int]:
    """Width and height of a WebP's canvas; (0, 0) for what is none. See RFC 9649, 2.5 to 2.7."""
    head = bytes(data[:30])
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return 0, 0
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF


def _gif_size(data: bytes | memoryview) -> tuple[int, int]:
    """Width and height that hold a GIF's canvas and its first frame; (0, 0) for what is none. See GIF89a, 18 to 20."""
    if data[:4] != b"GIF8" or len(data) < 13:
        return 0, 0
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while at + 9 <= len(data) and data[at] == 0x21:  # an extension: its kind, then blocks behind their length
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    if at + 9 <= len(data) and data[at] == 0x2C:
        x, y, across, down = struct.unpack_from("<HHHH", data, at + 1)
        width, height = max(width, x + across), max(height, y + down)
    return width, height


def undecodable(error: Exception) -> UndecodableError:
    """What Pillow raised, as one line."""
    return UndecodableError(f"{type(error).__name__}: {' '.join(str(error).split())}")


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """The (width, height) in pixels of an opened image, not yet decoded, once its EXIF orientation is applied."""
    width, height = image.size
    return (height, width) if _orientation(image) in _TRANSPOSED else (width, height)


def size_in(data: bytes | memoryview) -> tuple[int, int] | None:
    """As `upright_size`, of what may be only the beginning of an image; None when it cannot be read from that."""
    try:
        image = open_image(data)
    except UndecodableError:
        return None
    with image:
        try:
            return oriented_size(image)
        except MemoryError:
            raise
        except Exception:  # what Pillow raises for damaged Exif data
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
