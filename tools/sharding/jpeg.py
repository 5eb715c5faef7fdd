"""Baseline JPEGs with restart markers: a reader may decode only the part of one that it needs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from mixloader.shards.header import ORIENTATION

if TYPE_CHECKING:
    from PIL import Image

_TILE_WIDTH = 64
"""In pixels, about how far markers lie apart: narrower wastes bytes on markers, wider decodes more than is needed."""

_MCU_WIDTHS = {0: 8, 1: 16, 2: 16}
"""The width in pixels of a JPEG's smallest coded unit, by Pillow's number for 4:4:4, 4:2:2 and 4:2:0."""

_GRAY_MCU_WIDTH = 8


def restart_interval(width: int, mcu_width: int) -> int:
    """How many coded units lie between two markers of an image `width` pixels wide.

    It divides the units of a row, so that the tiles between the markers form columns, and is the divisor whose width
    is nearest to `_TILE_WIDTH` by ratio.
    """
    units = -(-width // mcu_width)
    ratios = {n: n * mcu_width / _TILE_WIDTH for n in range(1, units + 1) if units % n == 0}
    return min(ratios, key=lambda n: max(ratios[n], 1 / ratios[n]))


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """An L or RGB image as JPEG; the colours of an RGB one at half the resolution (4:2:0)."""
    return _saved(image, _GRAY_MCU_WIDTH if image.mode == "L" else 16, quality=quality)


def recode_jpeg(image: Image.Image) -> bytes | None:
    """A JPEG that Pillow opened, encoded again with its own quantisation tables and colour resolution.

    Of the metadata only the orientation is kept, and the pixels stay as they lie: turned, they would no longer meet
    the blocks they were quantised in, and lose more.

    Returns:
        The bytes; None for a kind that Pillow would write as another (CMYK, MPO, rare colour resolutions).
    """
    from PIL import Image
    from PIL.JpegImagePlugin import get_sampling

    mcu_width = _GRAY_MCU_WIDTH if image.mode == "L" else _MCU_WIDTHS.get(get_sampling(image))
    if image.format != "JPEG" or mcu_width is None:
        return None
    exif = Image.Exif()
    orientation = int(image.getexif().get(ORIENTATION, 1))
    if orientation != 1:
        exif[ORIENTATION] = orientation
    return _saved(image, mcu_width, quality="keep", exif=exif if len(exif) else b"", comment=b"")


def _saved(image: Image.Image, mcu_width: int, **arguments: Any) -> bytes:
    buffer = io.BytesIO()
    # Not with optimize=True, which saves 5 %: Pillow fails on noisy images then.
    image.save(buffer, "JPEG", restart_marker_blocks=restart_interval(image.width, mcu_width), **arguments)
    return buffer.getvalue()
