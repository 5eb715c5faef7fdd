"""Encoded pictures of every kind, and a stand-in for shards that hold them."""

from __future__ import annotations

import io
import tempfile
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from helpers.images import encoded, write_tar
from PIL import Image
from torch import Tensor

from mixloader.pipelines import Drawn
from mixloader.shards import ShardSet
from mixloader.shards.header import upright_size


def samples(pictures: Sequence[bytes]) -> ShardSet:
    """A set of shards with these pictures, in this order; its files go with it."""
    folder = tempfile.TemporaryDirectory()
    members = [(f"{i:04d}.{kind}", data) for i, p in enumerate(pictures) for kind, data in (("png", p), ("cls", b"0"))]
    write_tar(Path(folder.name, "a.tar"), members)
    shards = ShardSet(folder.name)
    assert len(shards.sizes) == len(pictures)  # measured now, while the set may be written
    weakref.finalize(shards, folder.cleanup)
    return shards


def sizes_of(pictures: Sequence[bytes]) -> npt.NDArray[np.int32]:
    return np.array([upright_size(data) for data in pictures], np.int32)


def photo(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth colours, nowhere symmetric: as photographs are at the scale of a pixel."""
    coarse = np.random.default_rng(seed).integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


EXIF_UPRIGHT = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0"
XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """The JPEG with these APP1 segments before its own."""
    return jpeg[:2] + b"".join(b"\xff\xe1" + (len(s) + 2).to_bytes(2) + s for s in segments) + jpeg[2:]


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
        "exif twice": with_segments(encoded(photo(300, 200), orientation=6), EXIF_UPRIGHT),
        "xmp 6": with_segments(encoded(photo(300, 200)), XMP),
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


def picture_of(drawn: Drawn) -> Tensor:
    """The drawn canvases [C, S, S, 3], without the slots that some pipelines draw beside the colours."""
    return drawn.canvases[..., :3]


def windowed(image: Image.Image, window: npt.NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    """A window of an image, its edges rounded to whole pixels, cropped and scaled with plain Pillow."""
    edges = np.floor(window.astype(np.float64) * np.tile(image.size, 2) + 0.5).astype(int)
    start = np.minimum(edges[:2], np.array(image.size) - 1)
    stop = np.minimum(np.maximum(edges[2:], start + 1), image.size)
    return image.crop((*start.tolist(), *stop.tolist())).resize(size, Image.Resampling.BILINEAR)
