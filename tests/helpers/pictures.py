"""Encoded pictures of every kind, and a stand-in for shards that hold them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from helpers.images import encoded
from PIL import Image

from mixloader.shards.header import upright_size


@dataclass(frozen=True)
class Encoded:
    """All that a pipeline reads of a sample."""

    data: memoryview


def samples(pictures: Sequence[bytes]) -> list[Encoded]:
    return [Encoded(memoryview(data)) for data in pictures]


def sizes_of(pictures: Sequence[bytes]) -> npt.NDArray[np.int32]:
    return np.array([upright_size(data) for data in pictures], np.int32)


def photo(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth colours, nowhere symmetric: as photographs are at the scale of a pixel."""
    coarse = np.random.default_rng(seed).integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


@cache
def gallery() -> dict[str, bytes]:
    """One of everything that both pipelines draw."""
    rgba = photo(120, 100, "RGBA")
    rgba.putalpha(photo(120, 100, "L", seed=1))
    deep = np.asarray(photo(64, 48, "L"), np.uint16) * 257 + 3
    return {
        "png": encoded(photo(300, 200), "PNG"),
        "jpeg": encoded(photo(300, 200), quality=92),
        "progressive": encoded(photo(320, 310), progressive=True),
        "webp": encoded(photo(200, 300), "WEBP", quality=80),
        "lossless": encoded(photo(200, 300), "WEBP", lossless=True),
        "bmp": encoded(photo(64, 80), "BMP"),
        "tiff": encoded(photo(64, 80), "TIFF"),
        "ppm": encoded(photo(64, 80), "PPM"),
        "gif": encoded(photo(64, 80), "GIF"),
        "gray jpeg": encoded(photo(300, 200, "L")),
        "gray png": encoded(photo(30, 20, "L"), "PNG"),
        "16 bit": encoded(Image.fromarray(deep), "PNG"),
        "16 bit turned": encoded(Image.fromarray(deep), "PNG", orientation=6),
        "1 bit": encoded(photo(64, 80, "1"), "PNG"),
        "cmyk": encoded(photo(300, 200, "CMYK")),
        "rgba": encoded(rgba, "PNG"),
        "la": encoded(photo(50, 60, "LA"), "PNG"),
        "palette": encoded(photo(64, 80, "P"), "PNG"),
        "turned png": encoded(photo(300, 200), "PNG", orientation=6),
        **{f"exif {turn}": encoded(photo(300, 200, seed=turn), quality=95, orientation=turn) for turn in range(1, 9)},
        "1x1 png": encoded(photo(1, 1), "PNG"),
        "1x1 jpeg": encoded(photo(1, 1)),
        "1 wide": encoded(photo(1, 90), "PNG"),
        "noise": encoded(noise(64, 60), "PNG"),
        "large noise": encoded(noise(500, 400), "PNG"),
    }


@cache
def huge() -> bytes:
    """12000 x 9000 pixels, as JPEG."""
    return encoded(photo(480, 360).resize((12000, 9000), Image.Resampling.NEAREST), quality=85)


def plain_pillow(data: bytes | memoryview) -> Image.Image:
    """An image as anyone would open it."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
