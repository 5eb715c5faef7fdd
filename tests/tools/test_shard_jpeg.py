"""The JPEGs that `mixloader shard` encodes itself: levels, shrunk, of a quality, recoded."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.images import ORIENTATION, encoded, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from mixloader.pipelines.pillow import decode_rgb
from mixloader.shards.header import upright_size
from mixloader.shards.levels import level_size, worthwhile_levels
from mixloader.tools.sharding.encode import Encoded, encode
from mixloader.tools.sharding.jpeg import restart_interval
from mixloader.tools.sharding.sources import SourceImage

SOF0, SOF2, SOS, DRI = 0xC0, 0xC2, 0xDA, 0xDD


def run(data: bytes | Image.Image, levels: int = 0, **options: int | None) -> Encoded:
    recode = bool(options.pop("recode", 0))
    wanted = {"max_size": None, "quality": None, **options}
    return encode(SourceImage("key", 0, "name", data), levels=levels, recode=recode, **wanted)


@dataclass(frozen=True)
class Markers:
    """What a JPEG's own bytes say."""

    frame: int  # SOF0 is baseline
    mcu: tuple[int, int]
    mcus: tuple[int, int]
    interval: int | None  # of DRI
    restarts: int  # RST0 to RST7 in the scan


def markers(data: bytes) -> Markers:
    segments: dict[int, bytes] = {}
    at = 2
    while SOS not in segments:
        assert data[at] == 0xFF
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segments[data[at + 1]] = data[at + 4 : at + 2 + length]
        at += 2 + length
    frame = next(marker for marker in segments if SOF0 <= marker <= SOF2)
    height, width, components = (int.from_bytes(segments[frame][i:j], "big") for i, j in ((1, 3), (3, 5), (5, 6)))
    factors = [divmod(segments[frame][7 + 3 * i], 16) for i in range(components)]
    # A scan of one component has a unit of one block, whatever its factors say.
    mcu = (8, 8) if components == 1 else (8 * max(h for h, _ in factors), 8 * max(v for _, v in factors))
    scan = data[at:]
    return Markers(
        frame,
        mcu,
        (math.ceil(width / mcu[0]), math.ceil(height / mcu[1])),
        int.from_bytes(segments[DRI], "big") if DRI in segments else None,
        sum(scan.count(bytes([0xFF, 0xD0 + i])) for i in range(8)),
    )


def assert_tiled(data: bytes) -> None:
    """Baseline, with markers at the divisor of a row's units whose width is nearest to 64 pixels by ratio."""
    found = markers(data)
    assert found.frame == SOF0
    assert found.interval is not None
    columns, rows = found.mcus
    distance = {n: abs(math.log(n * found.mcu[0] / 64)) for n in range(1, columns + 1) if columns % n == 0}
    assert distance[found.interval] == pytest.approx(min(distance.values()))
    assert found.restarts == columns * rows // found.interval - 1


@given(st.integers(1, 65_500), st.sampled_from([8, 16]))
def test_markers_stand_in_columns(width: int, mcu_width: int) -> None:
    units = math.ceil(width / mcu_width)
    interval = restart_interval(width, mcu_width)
    assert units % interval == 0
    assert interval <= 65_535


@settings(max_examples=30, deadline=None)
@given(st.integers(64, 300), st.integers(64, 200), st.sampled_from(["L", "RGB"]), st.sampled_from([0, 1, 2]))
def test_every_jpeg_of_the_tool_is_baseline_with_markers(width: int, height: int, mode: str, sampling: int) -> None:
    source = encoded(picture(width, height, mode=mode), progressive=True, subsampling=sampling)
    assert markers(source).frame == SOF2
    assert_tiled(run(source, quality=80).data)
    assert_tiled(run(source, max_size=60).data)
    recoded = run(source, recode=True, levels=1)
    assert_tiled(recoded.data)
    assert_tiled(recoded.levels[0])


def test_a_copied_jpeg_is_copied_beside_its_levels() -> None:
    source = encoded(picture(200, 100))
    result = run(source, levels=3)
    assert result.data == source
    assert [Image.open(io.BytesIO(level)).size for level in result.levels] == [(100, 50)]


def photograph(width: int, height: int) -> Image.Image:
    """Noise whose amplitude falls with frequency, as it does in photographs."""
    noise = np.fft.rfft2(np.random.default_rng(1).standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(noise / frequency**1.8, s=(height, width))
    pixels = 127 + (field / field.std())[..., None] * [50, 40, -20]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


PHOTOGRAPH = photograph(301, 150)
SOURCES = {
    "jpeg": encoded(PHOTOGRAPH),
    "gray jpeg": encoded(PHOTOGRAPH.convert("L")),
    "cmyk jpeg": encoded(PHOTOGRAPH.convert("CMYK")),
    "turned jpeg": encoded(photograph(150, 301), orientation=6),
    "mirrored jpeg": encoded(PHOTOGRAPH, orientation=2),
    "png": encoded(PHOTOGRAPH, "PNG"),
    "gray png": encoded(PHOTOGRAPH.convert("L"), "PNG"),
    "black and white png": encoded(PHOTOGRAPH.convert("1", dither=Image.Dither.NONE), "PNG"),
    "palette png": encoded(PHOTOGRAPH.convert("P"), "PNG"),
    "transparent png": encoded(PHOTOGRAPH.convert("RGBA"), "PNG"),
    "gray transparent png": encoded(PHOTOGRAPH.convert("LA"), "PNG"),
    "gray 16 bit png": encoded(Image.fromarray(np.asarray(PHOTOGRAPH.convert("L"), np.uint16) * 257), "PNG"),
    "turned png": encoded(photograph(150, 301), "PNG", orientation=8),
    "webp": encoded(PHOTOGRAPH, "WEBP"),
    "transparent webp": encoded(PHOTOGRAPH.convert("RGBA"), "WEBP", lossless=True),
    "bmp": encoded(PHOTOGRAPH, "BMP"),
}


GRAY = ("gray", "black")


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("options", [{}, {"quality": 95}, {"recode": 1}])
def test_levels_show_the_upright_image(name: str, options: dict[str, int]) -> None:
    result = run(SOURCES[name], levels=2, **options)
    assert (result.width, result.height) == upright_size(result.data) == (301, 150)
    whole = decode_rgb(result.data)
    for number, level in enumerate(result.levels, 1):
        image = Image.open(io.BytesIO(level))
        assert (image.format, image.mode) == ("JPEG", "L" if name.startswith(GRAY) else "RGB")
        assert image.size == level_size(301, 150, number)
        assert image.getexif().get(ORIENTATION, 1) == 1
        smaller = np.asarray(whole.resize(image.size, Image.Resampling.BOX), np.float32)
        assert np.abs(np.asarray(decode_rgb(level), np.float32) - smaller).mean() < 5
        assert_tiled(level)
    assert len(result.levels) == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(200, 400), st.integers(200, 400), st.floats(0, 1), st.floats(0, 1), st.floats(1, 2.5))
def test_a_window_of_a_level_looks_like_the_window_of_the_image(
    width: int, height: int, left: float, top: float, reduction: float
) -> None:
    image = photograph(width, height)
    half = decode_rgb(run(image, levels=1).levels[0])
    side = int(80 / reduction)  # of the region; the window has about 80 pixels of the half
    x, y = left * (width - 160), top * (height - 160)
    window = np.array([x / width, y / height, (x + 160) / width, (y + 160) / height])
    drawn, expected = (
        np.asarray(source.resize((side, side), Image.Resampling.BILINEAR, tuple(window * [*source.size, *source.size])))
        for source in (half, image)
    )
    assert np.abs(drawn.astype(float) - expected).mean() < 4
    assert abs(drawn.std() / expected.std() - 1) < 0.02


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 3))
def test_an_image_has_the_levels_that_are_worthwhile(width: int, height: int, levels: int) -> None:
    result = run(Image.new("RGB", (width, height)), levels)
    assert len(result.levels) == worthwhile_levels(width, height, levels)


def test_quality_applies_to_levels_too() -> None:
    low, usual, high = (run(picture(128, 128), levels=1, quality=quality) for quality in (20, None, 95))
    assert len(low.levels[0]) < len(usual.levels[0]) < len(high.levels[0])


def test_levels_are_made_after_shrinking() -> None:
    result = run(picture(400, 200), levels=3, max_size=200)
    assert [upright_size(level) for level in result.levels] == [(100, 50)]


def jpeg_file(data: bytes) -> JpegImageFile:
    image = Image.open(io.BytesIO(data))
    assert isinstance(image, JpegImageFile)
    return image


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_recoding_keeps_tables_and_colour_resolution(mode: str, sampling: int) -> None:
    source = encoded(photograph(203, 97).convert(mode), quality=83, subsampling=sampling)
    result = run(source, recode=True).data
    before, after = jpeg_file(source), jpeg_file(result)
    assert result != source
    assert after.quantization == before.quantization
    assert get_sampling(after) == get_sampling(before)
    difference = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    assert 10 * math.log10(255**2 / max(1e-9, np.square(difference).mean())) > 45


def test_recoding_reads_colours_that_are_stored_as_rgb() -> None:
    source = encoded(photograph(100, 80), keep_rgb=True)
    difference = np.asarray(decode_rgb(run(source, recode=True).data), float) - np.asarray(decode_rgb(source), float)
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_recoding_keeps_the_orientation(orientation: int) -> None:
    source = encoded(picture(80, 48), orientation=orientation, quality=95)
    result = run(source, recode=True)
    assert upright_size(result.data) == (result.width, result.height)
    assert jpeg_file(result.data).getexif().get(ORIENTATION, 1) == orientation
    upright = [np.asarray(decode_rgb(data), float) for data in (result.data, source)]
    assert np.abs(upright[0] - upright[1]).mean() < 2


def test_recoding_leaves_other_metadata_behind() -> None:
    source = encoded(picture(80, 48), icc_profile=bytes(5000), comment=b"a note")
    assert "icc_profile" not in jpeg_file(run(source, recode=True).data).info


def mpo() -> bytes:
    buffer = io.BytesIO()
    picture(64, 48).save(buffer, "MPO", save_all=True, append_images=[picture(64, 48, 1)])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(encoded(picture(64, 48, mode="CMYK")), id="CMYK"),
        pytest.param(mpo(), id="MPO"),
        pytest.param(encoded(picture(64, 48), "PNG"), id="PNG"),
        pytest.param(encoded(picture(64, 48), "WEBP"), id="WebP"),
    ],
)
def test_recoding_copies_what_it_cannot_keep(source: bytes) -> None:
    assert run(source, recode=True).data == source


@pytest.mark.parametrize("options", [{"levels": 1}, {"recode": 1}])
def test_noise_at_the_highest_quality_is_encoded(options: dict[str, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    source = encoded(Image.fromarray(noise), quality=100, subsampling=0)
    assert upright_size(run(source, **options).data) == (300, 300)
