from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from helpers.images import encoded, picture
from PIL import Image

from mixloader.pipelines.pillow import decode_rgb
from mixloader.tools.sharding.encode import Encoded, encode
from mixloader.tools.sharding.sources import SourceImage, UnreadableImageError


def run(data: bytes | Image.Image, max_size: int | None = None, quality: int | None = None) -> Encoded:
    return encode(SourceImage("key", 0, "name", data), max_size, quality)


def opened(image: Encoded) -> Image.Image:
    return Image.open(io.BytesIO(image.data))


COPIED = {
    "jpg": encoded(picture(50, 40)),
    "grey.jpg": encoded(picture(50, 40, mode="L")),
    "cmyk.jpg": encoded(picture(50, 40, mode="CMYK")),
    "turned.jpg": encoded(picture(40, 50), orientation=6),
    "png": encoded(picture(50, 40), "PNG"),
    "palette.png": encoded(picture(50, 40, mode="P"), "PNG"),
    "webp": encoded(picture(50, 40), "WEBP"),
    "lossless.webp": encoded(picture(50, 40), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", COPIED)
@pytest.mark.parametrize("max_size", [None, 50, 1000])
def test_bytes_are_copied_when_nothing_is_asked_of_them(name: str, max_size: int | None) -> None:
    assert run(COPIED[name], max_size) == Encoded(COPIED[name], name.rpartition(".")[2], 50, 40)


@pytest.mark.parametrize("image_format", ["BMP", "TIFF", "PPM", "GIF"])
def test_other_lossless_formats_become_png(image_format: str) -> None:
    image = picture(50, 40, mode="P" if image_format == "GIF" else "RGB")
    result = run(encoded(image, image_format))
    assert result.extension == "png"
    assert np.array_equal(np.asarray(opened(result).convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_pixels_become_png_unchanged(mode: str) -> None:
    image = picture(30, 20, mode=mode)
    result = run(image)
    assert (result.extension, result.width, result.height) == ("png", 30, 20)
    assert np.array_equal(np.asarray(opened(result).convert("RGBA")), np.asarray(image.convert("RGBA")))


def test_sixteen_bit_pixels_stay_sixteen_bit() -> None:
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    assert np.array_equal(np.asarray(opened(run(Image.fromarray(values)))), values)
    shrunk = opened(run(Image.fromarray(values), max_size=15))
    assert shrunk.size == (15, 10)
    assert np.asarray(shrunk).max() > 50_000


@pytest.mark.parametrize("value", [0, 255, 400, 33_000, 65_279, 65_535])
def test_sixteen_bits_become_the_same_eight_as_when_they_are_drawn(value: int) -> None:
    image = Image.fromarray(np.full((8, 8), value, np.uint16))
    result = run(image, quality=100)
    assert opened(result).mode == "L"
    assert np.array_equal(np.asarray(decode_rgb(result.data)), np.asarray(decode_rgb(run(image).data)))


@pytest.mark.parametrize(
    ("name", "extension", "image_format"),
    [
        ("jpg", "jpg", "JPEG"),
        ("cmyk.jpg", "jpg", "JPEG"),
        ("png", "png", "PNG"),
        ("palette.png", "png", "PNG"),
        ("webp", "webp", "WEBP"),
        ("lossless.webp", "png", "PNG"),
    ],
)
def test_a_larger_image_is_shrunk_in_its_own_kind(name: str, extension: str, image_format: str) -> None:
    result = run(COPIED[name], max_size=25)
    assert (result.extension, result.width, result.height) == (extension, 25, 20)
    assert opened(result).format == image_format
    assert opened(result).size == (25, 20)


def test_shrinking_is_lanczos() -> None:
    image = picture(50, 40)
    expected = np.asarray(image.resize((25, 20), Image.Resampling.LANCZOS))
    assert np.array_equal(np.asarray(opened(run(image, max_size=25))), expected)


def test_a_sliver_keeps_a_pixel() -> None:
    assert opened(run(picture(400, 2), max_size=50)).size == (50, 1)


@pytest.mark.parametrize(
    ("name", "extension"), [("jpg", "jpg"), ("png", "jpg"), ("palette.png", "jpg"), ("webp", "webp")]
)
def test_quality_encodes_every_image_again(name: str, extension: str) -> None:
    low, high = run(COPIED[name], quality=10), run(COPIED[name], quality=90)
    assert (low.extension, low.width, low.height) == (extension, 50, 40)
    assert len(low.data) < len(high.data)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("options", [{}, {"quality": 50}, {"max_size": 10}, {"quality": 50, "max_size": 10}])
def test_every_mode_has_a_format(mode: str, options: dict[str, Any]) -> None:
    image = picture(30, 20, mode="L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) << 8)
    result = run(image, **options)
    assert opened(result).size == (result.width, result.height)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_is_applied_when_encoding_again(orientation: int) -> None:
    data = encoded(picture(40, 20), orientation=orientation, quality=95)
    result = run(data, quality=95)
    turned = orientation >= 5
    assert (result.width, result.height) == ((20, 40) if turned else (40, 20))
    image = opened(result)
    assert image.size == (result.width, result.height)
    assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_scale_are_refused(mode: str) -> None:
    with pytest.raises(UnreadableImageError) as caught:
        run(encoded(picture(30, 20, mode="L").convert(mode), "TIFF"))
    assert caught.value.name == "name"
    assert "no 8 or 16 bit scale" in caught.value.reason


@pytest.mark.parametrize("name", ["jpg", "png", "webp"])
def test_an_image_cut_in_its_data_is_refused(name: str) -> None:
    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        run(COPIED[name][: len(COPIED[name]) * 2 // 3])
