"""What gets a picture and what does not: the same for every pipeline, with a reason, in bounded time and memory."""

from __future__ import annotations

import re
import struct
import tracemalloc
import warnings
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers.bad_images import JPEG, PNG, animated, bad, chunk, odd, png
from helpers.fuzzing import bounded, damaged, fuzz
from helpers.images import encoded, write_tar
from helpers.pictures import photo, picture_of, samples, sizes_of
from helpers.runs import build_plan
from hypothesis import strategies as st
from PIL import Image

from mixloader.errors import UndecodableError
from mixloader.pipelines import Pipeline
from mixloader.pipelines.cpu import CpuPipeline
from mixloader.pipelines.decode import decode_window
from mixloader.pipelines.jpeg import read_header
from mixloader.pipelines.pillow import PillowPipeline, crop, decode_rgb
from mixloader.pipelines.versions import pixel_boxes
from mixloader.policies import Run, Whole
from mixloader.shards import ShardSet
from mixloader.shards.header import open_image

KINDS = ["cpu", "pillow", "dali"]
NEIGHBOURS = [encoded(photo(80 + i, 60, seed=i)) for i in range(2)]
WHOLE = np.array([0, 0, 1, 1], np.float32)


def gif(canvas: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """Its first frame is to be replaced by the background: Pillow makes that when it opens it."""
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + bytes(6)
    return head + b"!\xf9\x04\x09\0\0\0\0," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\0;"


def webp(width: int, height: int) -> bytes:
    """A lossy one with another size in its header."""
    data = bytearray(encoded(photo(60, 40), "WEBP"))
    data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_canvas(width: int, height: int) -> bytes:
    """An animation with another size of its canvas."""
    data = bytearray(animated("WEBP"))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo(64, 80), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff(**tags: int) -> bytes:
    """A gray one; keys are `t256=` and so on."""
    whole = {258: 8, 259: 1, 262: 1, 277: 1} | {int(key[1:]): value for key, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 3 + (value > 65535), 1, value) for tag, value in sorted(whole.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(whole)) + entries + bytes(200)


def second_frame_header(width: int, height: int) -> bytes:
    """A JPEG that says two sizes."""
    at = JPEG.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(JPEG[at + 2 : at + 4])
    other = JPEG[at : at + 5] + struct.pack(">HH", height, width) + JPEG[at + 9 : end]
    return JPEG[:end] + other + JPEG[end:]


def with_exif(value: bytes, kind: int = 3) -> bytes:
    """A JPEG whose orientation is any four bytes of any type."""
    entry = b"\x01\x12" + kind.to_bytes(2) + b"\0\0\0\x01" + value
    note = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
    return JPEG[:2] + b"\xff\xe1" + (len(note) + 2).to_bytes(2) + note + JPEG[2:]


PACKED = zlib.compress(bytes(200 << 20), 9)
NONE, BOMB, TEXT = "it is no image of a known format", "of more than 134,217,728 none are decoded", "MAX_TEXT_CHUNK"


@cache
def left_out() -> dict[str, tuple[bytes, str]]:
    """What no pipeline draws, and what the reason says."""
    more = {
        "WebP of 16,383 x 16,383 (a bomb)": (webp(16_383, 16_383), "16383 x 16383 .*" + BOMB),
        "WebP of a canvas of 60,000 x 60,000 (a bomb)": (webp_canvas(60_000, 60_000), BOMB),
        "GIF of a frame of 65,535 x 65,535 (a bomb)": (gif((1, 1), (65_535, 65_535)), "65535 x 65535 .*" + BOMB),
        "BMP of 60,000 x 60,000 (a bomb)": (bmp(60_000, 60_000), BOMB),
        "BMP of 60,000 x -60,000 (a bomb)": (bmp(60_000, -60_000), BOMB),
        "TIFF of 60,000 x 60,000 (a bomb)": (tiff(t256=60_000, t257=60_000, t273=180, t278=60_000, t279=100), BOMB),
        "TIFF of a packed tile of 40,000 x 40,000 (a bomb)": (
            tiff(t256=60, t257=40, t259=8, t322=40_000, t323=40_000, t324=180, t325=100),
            "40000 x 40000 .*" + BOMB,
        ),
        "PPM of 60,000 x 60,000 (a bomb)": (b"P6 60000 60000 255\n" + bytes(100), BOMB),
        "JPEG that says a second size (a bomb)": (second_frame_header(60_000, 60_000), BOMB),
        "PNG with 200 MB of colour profile (a bomb)": (png(40, 40, chunk(b"iCCP", b"x\0\0" + PACKED)), TEXT),
        "PNG with 200 MB of Unicode (a bomb)": (png(40, 40, chunk(b"iTXt", b"x\0\1\0\0\0" + PACKED)), TEXT),
        "PNG of no width": (png(0, 40), NONE),
        "GIF of no size": (gif((0, 0), (0, 0)), "outside image|decode|identify|known"),
        "BMP of no width": (bmp(0, 10), NONE),
        "WebP of no width": (webp(0, 10), "could not create decoder"),
        "PPM of no width": (b"P6 0 10 255\n", NONE),
    }
    return {name: (data, "") for name, data in bad().items()} | more


@cache
def drawn() -> dict[str, bytes]:
    """What every pipeline draws."""
    gray = encoded(photo(40, 24, "L"))
    more = {
        "palette PNG, half transparent": encoded(photo(60, 40, "P"), "PNG", transparency=bytes(range(200))),
        "1 x 65,535": encoded(photo(1, 65_535), "PNG"),
        "arithmetic JPEG": gray.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "TIFF of two pages": encoded(photo(60, 40), "TIFF", save_all=True, append_images=[photo(60, 40, seed=5)]),
        "JPEG of Exif orientation 9": with_exif(b"\0\x09\0\0"),
        "JPEG of an Exif orientation that is text": with_exif(b"abc\0", kind=2),
        "JPEG of an Exif orientation that is a fraction": with_exif(b"\0\0\0\0", kind=5),
    }
    return odd() | more


def open_pipeline(kind: str, shards: ShardSet) -> Pipeline:
    if kind == "dali":
        pytest.importorskip("nvidia.dali")
        from mixloader.pipelines.dali import DaliPipeline

        return DaliPipeline(shards, threads=1)
    return {"cpu": CpuPipeline, "pillow": PillowPipeline}[kind](shards, threads=1)  # type: ignore[abstract]


def drawn_from(kind: str, shards: ShardSet, sizes: npt.NDArray[np.int32]) -> tuple[dict[int, str], torch.Tensor]:
    """All of a set, a canvas each: what failed, and the pictures."""
    run = Run(len(sizes), len(sizes), 64, 32, None)
    whole = Whole().allocate(run, 0, None, np.random.default_rng(0))  # type: ignore[arg-type]
    plan = build_plan(whole, run, sizes, seed=0, epoch=0, shuffle=False)
    pipeline = open_pipeline(kind, shards)
    with bounded():
        drawn = pipeline.draw(plan.batch(0))
    pipeline.close()
    return drawn.failed, picture_of(drawn).float()


def draw_between_neighbours(kind: str, data: bytes) -> tuple[dict[int, str], torch.Tensor]:
    """What became of sample 1, between two that are well."""
    pictures = [NEIGHBOURS[0], data, NEIGHBOURS[1]]
    return drawn_from(kind, samples(pictures), sizes_of(pictures))


def assert_left_out(found: tuple[dict[int, str], torch.Tensor], name: str, reason: str = "") -> None:
    failed, picture = found
    assert list(failed) == [1], name
    assert failed[1], name
    assert re.search(reason, failed[1]), (name, failed[1])
    assert "\n" not in failed[1], name
    assert "0x" not in failed[1], name  # no addresses of memory
    assert not picture[1].any(), name
    assert picture[[0, 2]].flatten(1).any(1).all(), name


@pytest.fixture(scope="module")
def outcomes(note: Any) -> Any:
    """By kind and pipeline; noted as one table when all are through."""
    table: dict[str, dict[str, str]] = {}
    yield table
    note("bad images", **{name: "; ".join(sorted(set(row.values()))) for name, row in sorted(table.items())})


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_drawn_is_left_out_with_a_reason(kind: str, outcomes: Any) -> None:
    for name, (data, reason) in left_out().items():
        found = draw_between_neighbours(kind, data)
        assert_left_out(found, name, reason)
        outcomes.setdefault(name, {})[kind] = f"left out: {found[0][1]}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_odd_is_drawn_as_pillow_draws_it(kind: str, outcomes: Any) -> None:
    for name, data in drawn().items():
        failed, picture = draw_between_neighbours(kind, data)
        assert failed == {}, name
        _, reference = draw_between_neighbours("pillow", data)
        assert (picture - reference).abs().mean() < 1, name
        outcomes.setdefault(name, {})[kind] = "drawn: first frame" if "first frame" in name else "drawn"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_drawn(kind: str, form: str) -> None:
    still = encoded(photo(60, 40, seed=0), "PNG")
    _, expected = draw_between_neighbours("pillow", still)
    _, picture = draw_between_neighbours(kind, animated(form))
    assert (picture - expected).abs().mean() < 5  # a GIF has few colours


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_extension_is_no_reason_to_leave_it_out(kind: str, tmp_path: Path) -> None:
    wrong = [("jpg", PNG), ("webp", JPEG), ("png", animated("GIF")), ("jpeg", encoded(photo(60, 40), "WEBP"))]
    members = [member for i, (name, data) in enumerate(wrong) for member in ((f"{i}.{name}", data), (f"{i}.cls", b"0"))]
    write_tar(tmp_path / "a.tar", members)
    shards = ShardSet(tmp_path)
    failed, picture = drawn_from(kind, shards, shards.sizes)
    assert failed == {}
    assert picture.flatten(1).any(1).all()


def with_checksum(data: bytes, at: int) -> bytes:
    """The PNG, after a change in the chunk that begins at `at`."""
    end = at + 8 + int.from_bytes(data[at : at + 4])
    return data[:end] + zlib.crc32(data[at + 4 : end]).to_bytes(4) + data[end + 4 :]


@pytest.mark.parametrize("kind", ["cpu", "dali"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_in_damaged_exif_data_is_read_as_pillow_reads_it(kind: str, form: str) -> None:
    whole = encoded(photo(48, 40), form, orientation=6)
    begin = whole.index(b"MM\0*") if b"MM\0*" in whole else whole.index(b"II*\0")
    pictures = []
    for at in range(begin, begin + 26):  # as long as it is with nothing but the orientation
        for bit in (1, 2, 4, 16, 128, 255):
            changed = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
            pictures.append(with_checksum(changed, begin - 8) if form == "PNG" else changed)
    failed, picture = drawn_from(kind, samples(pictures), sizes_of(pictures))
    expected_failed, expected = drawn_from("pillow", samples(pictures), sizes_of(pictures))
    assert failed == expected_failed
    assert ((picture - expected).abs().flatten(1).mean(1) < 3).all()


class Lying(ShardSet):
    """Its index says that all are small."""

    @property
    def sizes(self) -> npt.NDArray[np.int32]:  # type: ignore[override]
        return np.full((len(self), 2), 50, np.int32)


def bombs() -> list[bytes]:
    return [data for name, (data, _) in left_out().items() if "a bomb" in name]


@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_found_though_the_index_calls_them_small(kind: str) -> None:
    shards = samples([NEIGHBOURS[0], *bombs(), NEIGHBOURS[1]])
    lying = Lying(shards.path)
    failed, picture = drawn_from(kind, lying, lying.sizes)
    assert sorted(failed) == [*range(1, len(lying) - 1)]
    assert picture[[0, -1]].flatten(1).any(1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_holds_where_pillows_is_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many who train with large images set it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    pictures = [NEIGHBOURS[0], *bombs(), NEIGHBOURS[1]]
    failed, picture = drawn_from(kind, samples(pictures), sizes_of(pictures))
    assert sorted(failed) == [*range(1, len(pictures) - 1)]
    assert picture[[0, -1]].flatten(1).any(1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "PPM"])  # of the others Pillow takes its own
def test_a_lower_limit_of_pillows_is_not_ours(kind: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    failed, _ = draw_between_neighbours(kind, encoded(photo(90, 70), form))
    assert failed == {}


@pytest.mark.parametrize("decode", [decode_rgb, lambda data: decode_window(data, (0, 0), (0, 0, 0, 0), WHOLE)])
def test_a_large_image_is_drawn_without_a_warning(decode: Any) -> None:
    """Of 90 million pixels: Pillow warns of more than 89, which is an error where a run has it so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(png(30_000, 3_000))


def test_no_number_of_texts_fills_the_memory() -> None:
    texts = [chunk(b"zTXt", b"%d\0\0" % i + zlib.compress(bytes(1_000_000), 9)) for i in range(300)]
    for data in (png(40, 40, *texts), png(40, 40)[:-12] + b"".join(texts) + png(40, 40)[-12:]):
        tracemalloc.start()
        with pytest.raises(UndecodableError, match="Too much memory used in text chunks"):
            decode_rgb(data)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
        tracemalloc.stop()


SOUND = {
    "JPEG": encoded(photo(48, 40)),
    "JPEG with restart markers": encoded(photo(48, 40), restart_marker_blocks=1),
    "progressive JPEG": encoded(photo(48, 40), progressive=True),
    "turned JPEG": encoded(photo(48, 40), orientation=6),
    "CMYK JPEG": encoded(photo(48, 40, "CMYK")),
    "PNG": encoded(photo(24, 20), "PNG"),
    "WebP": encoded(photo(48, 40), "WEBP"),
    "lossless WebP": encoded(photo(24, 20), "WEBP", lossless=True),
    "GIF": animated("GIF"),
    "BMP": encoded(photo(12, 10), "BMP"),
    "TIFF": encoded(photo(12, 10), "TIFF"),
    "PPM": encoded(photo(12, 10), "PPM"),
}


def verdict(decode: Any) -> npt.NDArray[np.uint8] | str:
    """What is drawn, or why nothing is."""
    try:
        result: npt.NDArray[np.uint8] = np.asarray(decode())[..., :3]
        return result
    except UndecodableError as error:
        return str(error)


def both(data: bytes, window: npt.NDArray[np.float32]) -> list[npt.NDArray[np.uint8] | str]:
    """What the CPU pipeline and the Pillow pipeline make of a window of it."""

    def reference() -> Image.Image:
        image = decode_rgb(data)
        x0, y0, x1, y1 = pixel_boxes(window[None], np.array([image.size]))[0].tolist()
        return crop(image, (x0, y0, x1, y1))

    return [verdict(lambda: decode_window(data, (0, 0), (0, 0, 0, 0), window)), verdict(reference)]


def is_large(data: bytes) -> bool:
    try:
        width, height = open_image(data).size
    except UndecodableError:
        return False
    return width * height > 1 << 20


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SOUND)
def test_an_image_that_is_cut_short_is_drawn_alike_or_not_at_all(name: str, thorough: bool) -> None:
    whole, windows = SOUND[name], [WHOLE, np.array([0.1, 0.6, 0.4, 0.9], np.float32)]
    for length in [*range(0, len(whole), 1 if thorough else 29), *range(len(whole) - 20, len(whole) + 1)]:
        for window in windows:
            cpu, pillow = both(whole[:length], window)
            if isinstance(cpu, str) or isinstance(pillow, str):
                assert cpu == pillow, length
            else:
                assert cpu.shape == pillow.shape
                assert np.abs(cpu.astype(int) - pillow).max() <= 4, length


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_bytes_are_decoded_or_refused(thorough: bool, note: Any) -> None:
    """By both ways of decoding on a CPU, and by one error only: others would stop the run.

    The CPU pipeline does not look at what is damaged outside of its window, and bears with more in JPEGs than Pillow.
    It never leaves out what Pillow draws, and never shows what it did not decode.
    """
    found: Counter[str] = Counter()

    def each(data: st.DataObject) -> None:
        image = data.draw(damaged(SOUND[data.draw(st.sampled_from(sorted(SOUND)))]))
        x, y = data.draw(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)))
        window = data.draw(st.sampled_from([WHOLE, np.array([x, y, x + 0.1, y + 0.1], np.float32)]))
        if is_large(image):  # within the limit, and more memory than the bound of this test
            found["large"] += 1
            return
        with bounded():
            cpu, pillow = both(image, window)
            for value in (0, 255):  # what memory that is asked for next may hold
                junk = [np.full(7680, value, np.uint8) for _ in range(20)]
                del junk
                assert np.array_equal(cpu, both(image, window)[0])
        assert "\n" not in f"{cpu if isinstance(cpu, str) else ''}{pillow if isinstance(pillow, str) else ''}"
        assert isinstance(pillow, str) or not isinstance(cpu, str)
        if isinstance(pillow, str) and not isinstance(cpu, str):
            assert read_header(image) is not None
            found["drawn_by_cpu_alone"] += 1
        else:
            found["failed" if isinstance(cpu, str) else "drawn"] += 1

    fuzz(each, 30_000 if thorough else 300)
    note("fuzz: image bytes", executions=found.total() - found["large"], **found)
    assert found["drawn"]
    assert found["failed"]
