"""Bytes of every kind that stand where an image should, and images that are odd."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
from helpers.images import encoded
from helpers.pictures import photo
from PIL import Image

JPEG, PNG = encoded(photo(160, 120)), encoded(photo(160, 120), "PNG")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One of a PNG's."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A gray PNG of that size, black as far as it goes: some kilobytes."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(min(height, 4_000))) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated(form: str) -> bytes:
    frames = [photo(60, 40, seed=i) for i in range(3)]
    buffer = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=40, **options)
    return buffer.getvalue()


def resized_header(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame header."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def tiff_loop() -> bytes:
    """A TIFF whose list of directories comes back to its first."""
    data = bytearray(encoded(photo(20, 20), "TIFF"))
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    data[first + 2 + 12 * count : first + 6 + 12 * count] = first.to_bytes(4, "little")
    return bytes(data)


@cache
def bad() -> dict[str, bytes]:
    """What no pipeline can draw."""
    return {
        "empty": b"",
        "one byte": b"\xff",
        "garbage": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
        "zeros": bytes(5000),
        "web page named .jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "JSON": b'{"error": "rate limited"}',
        "EPS, which Pillow hands to a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "JPEG, its first half": JPEG[: len(JPEG) // 2],
        "JPEG, its header": JPEG[:20],
        "JPEG of no width": resized_header(JPEG, 0, 120),
        "PNG, its first half": PNG[: len(PNG) // 2],
        "PNG, its header": PNG[:40],
        "WebP, its first half": encoded(photo(160, 120), "WEBP")[:1000],
        "GIF, its first half": encoded(photo(160, 120), "GIF")[:4000],
        "PNG of 60,000 x 60,000 (a bomb)": png(60_000, 60_000),
        "PNG of 16,000 x 16,000 (a bomb)": png(16_000, 16_000),
        "JPEG of 60,000 x 60,000 (a bomb)": resized_header(JPEG, 60_000, 60_000),
        "JPEG of 12,000 x 12,000 (a bomb)": resized_header(JPEG, 12_000, 12_000),
        "GIF of 65,000 x 65,000 (a bomb)": b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + animated("GIF")[10:],
        "PNG with 200 MB of text (a bomb)": png(
            40, 40, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9))
        ),
    }


@cache
def odd() -> dict[str, bytes]:
    """What all pipelines draw."""
    sixteen = Image.fromarray((np.arange(4800, dtype=np.uint32).reshape(60, 80) * 13 % 65536).astype(np.uint16))
    return {
        "PNG named .jpg": PNG,
        "JPEG with garbage behind it": JPEG + b"garbage" * 100,
        "progressive JPEG": encoded(photo(160, 120), progressive=True),
        "CMYK JPEG": encoded(photo(160, 120, "CMYK")),
        "gray JPEG": encoded(photo(160, 120, "L")),
        "16-bit PNG": encoded(sixteen, "PNG"),
        "palette PNG, transparent": encoded(photo(60, 40, "P"), "PNG", transparency=0),
        "1 x 1": encoded(photo(1, 1), "PNG"),
        "1 x 20,000": encoded(photo(1, 20_000), "PNG"),
        "20,000 x 1 JPEG": encoded(photo(20_000, 1)),
        "animated GIF: its first frame": animated("GIF"),
        "animated PNG: its first frame": animated("PNG"),
        "animated WebP: its first frame": animated("WEBP"),
        "TIFF whose directories go in a circle": tiff_loop(),
        "JPEG whose Exif data is garbage": JPEG[:2] + b"\xff\xe1\x00\x20Exif\0\0" + b"\xff" * 24 + JPEG[2:],
    }
