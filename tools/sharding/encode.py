"""How an image goes into a shard: its own bytes where it can, encoded again where it must be."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixloader.shards.header import oriented_size
from mixloader.tools.sharding.sources import SourceImage, UnreadableImageError

if TYPE_CHECKING:
    from PIL import Image

SHRUNK_QUALITY = 95
"""Of a JPEG or lossy WebP that only had to become smaller."""

_COPIED = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Formats whose bytes are copied, and their extension. MPO is a JPEG with further pictures behind it."""

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image as it goes into a shard: bytes, extension without dot, size of the upright image in pixels."""

    data: bytes
    extension: str
    width: int
    height: int


def encode(item: SourceImage, max_size: int | None, quality: int | None) -> Encoded:
    """Encodes one image; bytes of a JPEG, PNG or WebP are copied when neither option asks anything of them.

    Args:
        item: the image.
        max_size: the longest side in pixels; a larger image is shrunk to it.
        quality: of JPEG or WebP, 1 to 100; lossless images stay lossless when None.

    Raises:
        UnreadableImageError: the image cannot be decoded whole, or its pixels have no image format to go into.
    """
    from PIL import Image

    if not isinstance(item.data, bytes):
        return _encode_again(item, item.data, max_size, quality)
    try:
        with Image.open(io.BytesIO(item.data)) as image:
            extension = _COPIED.get(image.format or "")
            width, height = oriented_size(image)
            too_large = max_size is not None and max(width, height) > max_size
            if extension and quality is None and not too_large:
                image.draft(None, (1, 1))  # decodes a JPEG at an eighth, which still reads every byte of it
                image.load()
                return Encoded(item.data, extension, width, height)
            image.load()
            return _encode_again(item, image, max_size, quality)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen types (SyntaxError, struct.error, ...)
        raise UnreadableImageError(item.name, f"cannot be decoded: {error}") from None


def _encode_again(item: SourceImage, image: Image.Image, max_size: int | None, quality: int | None) -> Encoded:
    from PIL import ImageOps

    image_format, arguments = _target(item.data, image.format, quality)
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("F", "I"):
        raise UnreadableImageError(item.name, f"pixels of mode {upright.mode} have no 8 or 16 bit scale")
    if max_size is not None and max(upright.size) > max_size:
        upright = _shrunk(upright, max_size)
    modes = ("L", "RGB", "RGBA") if image_format == "WEBP" else ("L", "RGB")
    if image_format != "PNG":
        upright = _eight_bit(upright, modes)
    elif upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", *_SIXTEEN_BIT):
        upright = upright.convert("RGB")
    buffer = io.BytesIO()
    upright.save(buffer, image_format, **arguments)
    return Encoded(buffer.getvalue(), _COPIED[image_format], *upright.size)


def _target(data: bytes | Image.Image, source_format: str | None, quality: int | None) -> tuple[str, dict[str, Any]]:
    """The format to write, and Pillow's arguments for it."""
    if source_format == "WEBP" and isinstance(data, bytes) and (quality is not None or not _is_lossless(data)):
        return "WEBP", {"quality": quality or SHRUNK_QUALITY}
    if source_format in ("JPEG", "MPO") or quality is not None:
        return "JPEG", {"quality": quality or SHRUNK_QUALITY}
    return "PNG", {}


def _is_lossless(webp: bytes) -> bool:
    """Whether the first picture chunk of a WebP file (RIFF: name, length, data, padded to even) is VP8L."""
    offset = 12
    while offset + 8 <= len(webp):
        name = webp[offset : offset + 4]
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        if name == b"ANMF":  # an animation's frame holds chunks of its own behind 16 bytes
            offset += 8 + 16
            continue
        length = int.from_bytes(webp[offset + 4 : offset + 8], "little")
        offset += 8 + length + length % 2
    return False


def _shrunk(image: Image.Image, max_size: int) -> Image.Image:
    from PIL import Image

    if image.mode in ("1", "P", "PA"):  # a palette's numbers cannot be averaged
        has_alpha = image.mode == "PA" or "transparency" in image.info
        image = image.convert("L" if image.mode == "1" else "RGBA" if has_alpha else "RGB")
    scale = max_size / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _eight_bit(image: Image.Image, modes: tuple[str, ...]) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        from mixloader.pipelines.pillow import to_rgb  # brings torch, which no other image needs

        return to_rgb(image).convert("L")
    if image.mode in modes:
        return image
    has_alpha = "RGBA" in modes and (image.mode in ("LA", "PA", "La") or "transparency" in image.info)
    return image.convert("RGBA" if has_alpha else "L" if image.mode in ("1", "LA") else "RGB")
