"""A part that is cut out of an encoded JPEG holds the very pixels that the whole one has there."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import simplejpeg
from helpers.images import encoded
from helpers.pictures import photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mixloader.errors import UndecodableError
from mixloader.pipelines.decode import decode_window
from mixloader.pipelines.jpeg import cut, end_of, read_header

MARKS = [
    {},
    *[{"restart_marker_blocks": n} for n in (1, 2, 3, 5)],
    {"restart_marker_rows": 1},
    {"restart_marker_rows": 2},
]


@st.composite
def boxes(draw: st.DrawFn, width: int, height: int) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))


def decoded(data: bytes | memoryview) -> np.ndarray[Any, Any]:
    return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGBA", strict=False))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_cut_out_has_the_same_pixels(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    how = data.draw(st.sampled_from(MARKS)) | data.draw(st.sampled_from([{}, *[{"subsampling": n} for n in (0, 1, 2)]]))
    mode, progressive = data.draw(st.sampled_from(["RGB", "L"])), data.draw(st.booleans())
    if mode == "L":
        how.pop("subsampling", None)
    image = encoded(photo(width, height, mode, seed=width), quality=90, progressive=progressive, **how)
    box = data.draw(boxes(width, height))
    header = read_header(image)
    assert header is not None
    assert (header.width, header.height, header.sequential) == (width, height, not progressive)
    end = end_of(image, header)
    assert end == len(image) - 2
    part, left, top = cut(image, header, end, box)
    x0, y0, x1, y1 = box
    drawn = decoded(part)[y0 - top : y1 - top, x0 - left : x1 - left]
    assert np.array_equal(drawn, decoded(image)[y0:y1, x0:x1])


def test_only_the_pieces_under_the_window_are_kept() -> None:
    image = encoded(photo(512, 384), quality=90, restart_marker_blocks=4)  # 8 x 24 pieces of 64 x 16 pixels
    header = read_header(image)
    assert header is not None
    part, left, top = cut(image, header, len(image) - 2, (130, 34, 190, 46))
    assert (left, top) == (128, 32)
    assert decoded(part).shape == (16, 64, 4)
    assert len(part) - header.scan < (len(image) - header.scan) / 50


def test_without_markers_the_picture_ends_below_the_window() -> None:
    image = encoded(photo(512, 384), quality=90)
    header = read_header(image)
    assert header is not None
    part, left, top = cut(image, header, len(image) - 2, (130, 34, 190, 46))
    assert (left, top) == (0, 0)
    assert decoded(part).shape == (48, 512, 4)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_of_a_header(data: bytes) -> None:
    for each in (data, b"\xff\xd8" + data, b"\xff\xd8\xff" + data):
        header = read_header(each)
        assert header is None or header.width > 0


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_jpeg_gives_pixels_or_an_exception(data: st.DataObject) -> None:
    """Whatever happens to its bytes, nothing hangs or crashes, and what comes out has the window's size."""
    image = bytearray(encoded(photo(160, 120), quality=90, **data.draw(st.sampled_from(MARKS))))
    for _ in range(data.draw(st.integers(1, 8))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    image = image[: data.draw(st.integers(len(image) // 2, len(image)))]
    window = np.array([0.25, 0.25, 0.5, 0.75], np.float32)
    try:
        pixels = decode_window(bytes(image), (160, 120), (40, 30, 80, 90), window)
    except Exception:
        return
    header = read_header(image)
    if header is None or (header.width, header.height) == (160, 120):
        assert pixels.shape == (60, 40, 4)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_window_is_what_pillow_shows_of_it(data: st.DataObject) -> None:
    width, height, orientation = (data.draw(st.integers(*range_)) for range_ in ((20, 120), (20, 120), (1, 8)))
    kind = data.draw(st.sampled_from(["JPEG", "PNG"]))
    box = data.draw(boxes(*((height, width) if orientation > 4 else (width, height))))
    image = encoded(photo(width, height), kind, orientation=orientation, **({"quality": 95} if kind == "JPEG" else {}))
    upright = upright_of(image)
    pixels = decode_window(image, upright.size, box, np.zeros(4, np.float32))
    expected = np.asarray(upright.crop(box), np.int64)
    assert (pixels[..., 3] == 255).all()
    assert np.abs(pixels[..., :3] - expected).max() <= (4 if kind == "JPEG" else 0)


def test_an_image_of_another_size_than_indexed_shows_the_same_part_of_it() -> None:
    image = encoded(photo(100, 80), "PNG")
    window = np.array([0.5, 0.25, 1, 0.75], np.float32)
    pixels = decode_window(image, (50, 40), (25, 10, 50, 30), window)
    assert np.array_equal(pixels[..., :3], np.asarray(photo(100, 80))[20:60, 50:100])


def test_what_follows_the_end_of_a_jpeg_does_no_harm() -> None:
    image = encoded(photo(100, 80), restart_marker_blocks=1)
    window = np.array([0, 0, 1, 1], np.float32)
    expected = decode_window(image, (100, 80), (10, 10, 30, 30), window)
    for behind in (b"\0" * 100, b"\xff\xd0" * 9, b"\xff"):
        assert np.array_equal(decode_window(image + behind, (100, 80), (10, 10, 30, 30), window), expected)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_jpeg_that_is_cut_short_is_refused_wherever_the_window_lies(part: float) -> None:
    image = encoded(photo(160, 120), quality=90, restart_marker_blocks=2)
    window = np.array([0, 0, 0.1, 0.1], np.float32)
    with pytest.raises(UndecodableError, match="truncated"):
        decode_window(image[: int(len(image) * part)], (160, 120), (0, 0, 16, 12), window)


def upright_of(image: bytes) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(io.BytesIO(image))).convert("RGB")
