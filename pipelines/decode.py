"""Decoding a window: simplejpeg for what it decodes, Pillow for every other image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import simplejpeg

from mixloader.pipelines.jpeg import Box, Bytes, Header, cut, end_of, read_header
from mixloader.pipelines.pillow import crop, decode_rgb
from mixloader.pipelines.versions import pixel_boxes
from mixloader.shards.header import MOST_PIXELS, orientation_in

Pixels = npt.NDArray[np.uint8]


def decode_window(
    data: bytes | memoryview,
    size: tuple[int, int],
    box: Box,
    window: npt.NDArray[np.float32],
) -> Pixels:
    """The pixels under a window, and no others where that can be had for less.

    Args:
        data: the encoded image.
        size: the width and height that it should have, pixels.
        box: the window in pixels of an image of that size.
        window: float32 [4], the window in fractions, for an image of another size.

    Returns:
        uint8 [height, width, 4], RGB and 255.

    Raises:
        UndecodableError: Pillow cannot decode it whole either, or it has too many pixels.
    """
    header = read_header(data)
    if header is not None and _is_upright(header):
        pixels = _decode_jpeg(data, header, _box_in((header.width, header.height), size, box, window))
        if pixels is not None:
            return pixels
    image = decode_rgb(data)
    return np.array(crop(image, _box_in(image.size, size, box, window)).convert("RGBA"))


def _decode_jpeg(data: bytes | memoryview, header: Header, box: Box) -> Pixels | None:
    """The pixels under the window; None where Pillow has to decide whether there are any."""
    end = end_of(data, header)
    if end is None or header.width * header.height > MOST_PIXELS:
        return None
    x0, y0, x1, y1 = box
    part, left, top = cut(data, header, end, box)
    pixels = _decode_all(part, header.frame)
    return None if pixels is None else pixels[y0 - top : y1 - top, x0 - left : x1 - left]


def _decode_all(part: Bytes, frame: int) -> Pixels | None:
    """The pixels of a JPEG whose size stands at `frame`; None where simplejpeg does not get to its last one.

    It has to bear with bytes behind the picture. But then, once there was anything to warn of, it is silent about
    errors too, and leaves what it did not get to as the memory was: of other images. Opacity, which it writes with
    each pixel, tells.
    """
    height, width = part[frame] << 8 | part[frame + 1], part[frame + 2] << 8 | part[frame + 3]
    pixels = np.empty((height, width, 4), np.uint8)
    pixels[-1, -1, 3] = 0
    try:
        simplejpeg.decode_jpeg(part, colorspace="RGBA", strict=False, buffer=pixels)
    except ValueError:  # all that simplejpeg raises for bytes that it cannot decode
        return None
    return pixels if pixels[-1, -1, 3] else None


def _box_in(actual: tuple[int, int], size: tuple[int, int], box: Box, window: npt.NDArray[np.float32]) -> Box:
    """The window in pixels of the image as it is: another one than was indexed may be in its place."""
    if actual == size:
        return box
    x0, y0, x1, y1 = pixel_boxes(window[None], np.array([actual]))[0].tolist()
    return x0, y0, x1, y1


def _is_upright(header: Header) -> bool:
    """Whether nothing turns the picture; Pillow decides where that takes more than a look."""
    if header.ambiguous:
        return False
    try:
        return all(orientation_in(note) == 1 for note in header.notes if note.startswith(b"Exif"))
    except MemoryError:
        raise
    except Exception:  # Pillow's reader raises many kinds for damaged Exif data
        return False
