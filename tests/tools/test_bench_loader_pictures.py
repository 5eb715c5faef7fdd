"""What rivals draw with, beside the reference and beside what mixloader draws."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mixloader.pipelines.versions import pixel_boxes
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.tools.bench.loader.contestants import RIVALS
from mixloader.tools.bench.loader.data import write_jpegs
from mixloader.tools.bench.loader.made_up import HEIGHT, WIDTH, write_photographs
from mixloader.tools.bench.loader.photographs import LONGER, photographs_folder, select_photographs
from mixloader.tools.bench.loader.plans import PLANS, open_loader
from mixloader.tools.bench.loader.reference import _whole, draw
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards


@pytest.fixture(scope="module")
def pictures() -> Iterator[ModuleType]:
    """The rivals' module, found as they find it."""
    names = ("pictures", "vision")
    sys.path.insert(0, str(RIVALS))
    try:
        import pictures

        yield pictures
    finally:
        sys.path.remove(str(RIVALS))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, dest = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("shards")
    write_photographs(folder, 14)
    write_shards(FolderSource(folder), dest, options=ShardOptions(workers=1))
    return dest


FRACTIONS = st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)).map(sorted)


@given(FRACTIONS, st.integers(1, 5000))
@example([0.0, 1.0], 1)
@example([1.0, 1.0], 7)
@example([0.5, 0.5], 500)
@example([0.25, 0.75], 2)
def test_windows_are_rounded_as_mixloader_rounds_them(pictures: ModuleType, window: list[float], extent: int) -> None:
    start, stop = window
    box = pixel_boxes(np.array([[start, start, stop, stop]], np.float32), np.array([[extent, extent]]))[0].tolist()
    assert _whole(start, stop, extent) == pictures._whole(start, stop, extent) == (box[0], box[2])
    assert 0 <= box[0] < box[2] <= extent


@pytest.mark.parametrize("name", PLANS)
def test_a_rivals_canvases_are_the_references(name: str, pictures: ModuleType, shards: Path, tmp_path: Path) -> None:
    opened, path = ShardSet(shards), tmp_path / "plan.npz"
    with open_loader(shards, name, 96) as loader:
        loader.plan.save(path)
    write_jpegs(opened, tmp_path / "jpegs")
    plan, jpegs = pictures.Plan(str(path)), pictures.Jpegs(str(tmp_path / "jpegs"))
    drawn = np.stack([pictures.draw(plan, canvas, jpegs).numpy() for canvas in plan.lap()[0]])
    expected = draw(opened, Plan.load(path).batch(0))
    assert np.abs(drawn.astype(int) - expected).mean() < 0.5
    images = pictures.Normalise(96)(torch.from_numpy(drawn))
    mean, std = (torch.tensor(values)[:, None, None] for values in (pictures.MEAN, pictures.STD))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(images * std + mean, torch.from_numpy(drawn).permute(0, 3, 1, 2) / 255, atol=1e-5)


def test_made_up_photographs_are_like_photographs(tmp_path: Path) -> None:
    write_photographs(tmp_path, 2)
    paths = sorted(tmp_path.rglob("*.jpg"))
    assert len(paths) == 2
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (WIDTH, HEIGHT)
            assert 60e3 < path.stat().st_size < 200e3
            pixels = np.asarray(image, np.float32)
        assert 20 < pixels.std() < 80
        assert np.corrcoef(pixels[:, :-1].ravel(), pixels[:, 1:].ravel())[0, 1] > 0.8


def test_of_a_package_only_photographs_are_taken(tmp_path: Path) -> None:
    source = tmp_path / "source" / "deep"
    source.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size, mode in [
        ("large.jpg", (1000, 800), "RGB"),
        ("small.JPEG", (320, 240), "RGB"),
        ("icon.jpg", (64, 64), "RGB"),
        ("banner.jpg", (1000, 300), "RGB"),
        ("grey.jpg", (400, 300), "L"),
    ]:
        pixels = rng.integers(0, 256, (size[1], size[0], len(mode)), np.uint8).squeeze()
        Image.fromarray(pixels).save(source / name, "JPEG")
    (source / "same.jpg").write_bytes((source / "large.jpg").read_bytes())
    (source / "broken.jpg").write_bytes(b"no picture")
    (source / "link.jpg").symlink_to(source / "large.jpg")
    assert select_photographs(tmp_path / "source", tmp_path / "dest") == 2
    sizes = [Image.open(path).size for path in sorted((tmp_path / "dest").rglob("*.jpg"))]
    assert sorted(sizes) == [(320, 240), (LONGER, 400)]


def test_photographs_that_are_there_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixloader.tools.bench.loader.photographs.unpack_package", None)
    (tmp_path / "photographs").mkdir()
    assert photographs_folder(tmp_path) == tmp_path / "photographs"
