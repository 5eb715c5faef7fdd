"""How an image goes into a shard: its own bytes where it can, encoded again where it must be."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixloader.errors import UndecodableError
from mixloader.shards.header import open_image, oriented_size, undecodable
from mixloader.shards.levels import level_size, worthwhile_levels
from mixloader.tools.sharding.jpeg import encode_jpeg, recode_jpeg
from mixloader.tools.sharding.sources import SourceImage, UnreadableImageError

if TYPE_CHECKING:
    from PIL import Image

SHRUNK_QUALITY = 95
"""Of a JPEG or lossy WebP that only had to become smaller."""

LEVEL_QUALITY = 90
"""Of levels, unless a quality is asked for."""

_COPIED = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Formats whose bytes are copied, and their extension. MPO is a JPEG with further pictures behind it."""

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image as it goes into a shard.

    Attributes:
        data: the encoded bytes.
        extension: without a dot before it.
        width: of the upright image, pixels.
        height: of the upright image, pixels.
        levels: its smaller versions as JPEG, from the half on.
    """

    data: bytes
    extension: str
    width: int
    height: int
    levels: tuple[bytes, ...] = ()


def encode(
    item: SourceImage, max_size: int | None, quality: int | None, levels: int = 0, *, recode: bool = False
) -> Encoded:
    """Encodes one image; bytes of a JPEG, PNG or WebP are copied when no option asks anything of them.

    Args:
        item: the image.
        max_size: the longest side in pixels; a larger image is shrunk to it.
        quality: of JPEG or WebP, 1 to 100; lossless images stay lossless when None.
        levels: how many smaller versions to make, 0 to 3; those that would be tiny are left out.
        recode: whether a JPEG that would be copied is encoded again as it is, with restart markers.

    Raises:
        UnreadableImageError: the image cannot be decoded whole, or its pixels have no image format to go into.
    """
    from PIL import ImageOps

    if not isinstance(item.data, bytes):
        return _encode_again(item, item.data, max_size, quality, levels)
    try:
        with open_image(item.data) as image:
            extension = _COPIED.get(image.format or "")
            width, height = oriented_size(image)
            too_large = max_size is not None and max(width, height) > max_size
            if extension is None or quality is not None or too_large:
                image.load()
                return _encode_again(item, image, max_size, quality, levels)
            if not (levels or recode):
                image.draft(None, (1, 1))  # decodes a JPEG at an eighth, which still reads every byte of it
            image.load()
            smaller = _levels(ImageOps.exif_transpose(image), levels, None) if levels else ()
            return Encoded((recode_jpeg(image) if recode else None) or item.data, extension, width, height, smaller)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen types (SyntaxError, struct.error, ...)
        reason = error if isinstance(error, UndecodableError) else undecodable(error)
        raise UnreadableImageError(item.name, f"cannot be decoded: {reason}") from None


def _encode_again(
    item: SourceImage, image: Image.Image, max_size: int | None, quality: int | None, levels: int
) -> Encoded:
    from PIL import ImageOps

    image_format, arguments = _target(item.data, image.format, quality)
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("F", "I"):
        raise UnreadableImageError(item.name, f"pixels of mode {upright.mode} have no 8 or 16 bit scale")
    if max_size is not None and max(upright.size) > max_size:
        upright = _shrunk(upright, max_size)
    data = _saved(upright, image_format, arguments)
    return Encoded(data, _COPIED[image_format], *upright.size, _levels(upright, levels, quality))


def _saved(upright: Image.Image, image_format: str, arguments: dict[str, Any]) -> bytes:
    if image_format == "JPEG":
        return encode_jpeg(_eight_bit(upright, ("L", "RGB")), **arguments)
    if image_format == "WEBP":
        upright = _eight_bit(upright, ("L", "RGB", "RGBA"))
    elif upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", *_SIXTEEN_BIT):
        upright = upright.convert("RGB")
    buffer = io.BytesIO()
    upright.save(buffer, image_format, **arguments)
    return buffer.getvalue()


def _levels(upright: Image.Image, levels: int, quality: int | None) -> tuple[bytes, ...]:
    """Each level is made from the image itself. Bicubic: as near to it as Lanczos when drawn, in fewer bytes."""
    from PIL import Image

    count = worthwhile_levels(*upright.size, levels)
    if count == 0:
        return ()
    image = _eight_bit(upright, ("L", "RGB"))
    sizes = [level_size(*image.size, level) for level in range(1, count + 1)]
    return tuple(encode_jpeg(image.resize(size, Image.Resampling.BICUBIC), quality or LEVEL_QUALITY) for size in sizes)


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
