"""Which version of an image is read, and which of its pixels: the same for every pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import encoded, write_tar
from helpers.pictures import photo, picture_of
from helpers.runs import build_plan
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mixloader.pipelines.cpu import CpuPipeline
from mixloader.pipelines.pillow import PillowPipeline
from mixloader.pipelines.versions import Versions, pixel_boxes
from mixloader.plan import Plan
from mixloader.planning import Augment
from mixloader.policies import Naive, Policy, Progressive, Run, Whole
from mixloader.shards import ShardSet
from mixloader.shards.levels import level_size
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

SIZES = [(500, 375), (375, 500), (1000, 750), (64, 64), (40, 300), (501, 333)]
POLICIES: list[Policy] = [
    Whole(),
    Naive(view="scale"),
    Naive(),
    Progressive(until=1),
    Progressive(until=1, packed=True),
]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    """The same photographs without and with levels and restart markers."""
    folder = tmp_path_factory.mktemp("versions")
    for i, (width, height) in enumerate(SIZES * 2):
        path = folder / "images" / "c" / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = photo(width // 4, height // 4, seed=i).resize((width, height), Image.Resampling.BICUBIC)
        path.write_bytes(encoded(smooth, quality=92, orientation=1 + i % 8))
    options = {
        "plain": ShardOptions(),
        "levels": ShardOptions(levels=3),
        "markers": ShardOptions(levels=3, recode=True),
    }
    for name, option in options.items():
        write_shards(FolderSource(folder / "images"), Path(folder, name), options=option)
    return {name: ShardSet(folder / name) for name in options}


def plan_for(shards: ShardSet, policy: Policy, image_size: int = 224, augment: Augment | None = Augment()) -> Plan:
    run = Run(len(shards), min(12, len(shards)), image_size, 32, 8)
    allocation = policy.allocate(run, 0, None, np.random.default_rng(0))  # type: ignore[arg-type]
    budget = policy.budget(run, 0)
    return build_plan(allocation, run, shards.sizes, seed=3, epoch=0, budget=budget, augment=augment)


WINDOWS = hnp.arrays(np.float32, (4,), elements=st.floats(0, 1, width=32)).filter(lambda w: w[0] < w[2] and w[1] < w[3])


@given(WINDOWS, st.integers(1, 5000), st.integers(1, 5000))
def test_a_window_has_a_pixel_at_least_and_lies_in_the_image(window: np.ndarray, width: int, height: int) -> None:
    ((x0, y0, x1, y1),) = pixel_boxes(window[None], np.array([[width, height]]))
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    edges = window.astype(np.float64) * (width, height, width, height)
    assert np.abs(edges - (x0, y0, x1, y1)).max() <= 1.5


def test_the_whole_window_is_the_whole_image() -> None:
    window = np.array([[0, 0, 1, 1]], np.float32)
    for size in SIZES:
        assert pixel_boxes(window, np.array([size])).tolist() == [[0, 0, *size]]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("image_size", [64, 128, 224])
def test_the_smallest_level_that_has_the_regions_pixels_is_read(
    sets: dict[str, ShardSet], policy: Policy, image_size: int
) -> None:
    shards = sets["levels"]
    plan = plan_for(shards, policy, image_size)
    versions = Versions.of(plan, shards)
    stored = shards.stored(plan.sample)
    for row, (sample, level) in enumerate(versions.read):
        full = shards.sizes[sample].astype(np.int64)
        needed = plan.region[row, 2:] - plan.region[row, :2]
        covers = []
        for each in range(stored[row] + 1):
            (box,) = pixel_boxes(plan.window[[row]], np.array([level_size(*full.tolist(), each)]))
            covers.append(bool((box[2:] - box[:2] >= needed).all()))
            if each == level:
                assert versions.box[row].tolist() == box.tolist()
        assert level == max([each for each, fits in enumerate(covers) if fits], default=0)


def test_a_set_without_levels_is_read_as_it_is(sets: dict[str, ShardSet]) -> None:
    plan = plan_for(sets["plain"], Progressive(until=1))
    assert [level for _, level in Versions.of(plan, sets["plain"]).read] == [0] * len(plan)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("name", ["levels", "markers"])
def test_pipelines_agree_on_levels_and_a_level_looks_like_its_image(
    sets: dict[str, ShardSet], policy: Policy, name: str
) -> None:
    dali = pytest.importorskip("mixloader.pipelines.dali")
    batch = plan_for(sets[name], policy, 64).batch(0)
    assert max(level for _, level in Versions.of(batch, sets[name]).read) > 0
    reference = PillowPipeline(sets[name], threads=1)
    full = CpuPipeline(sets["plain"], threads=1)
    expected, from_full = (picture_of(p.draw(batch)).float() for p in (reference, full))
    for pipeline in (CpuPipeline(sets[name], threads=1), dali.DaliPipeline(sets[name], threads=1)):
        drawn = pipeline.draw(batch)
        assert drawn.failed == {}
        apart = (picture_of(drawn).float() - expected).abs()
        assert apart.mean() < 1
        pipeline.close()
    assert (expected - from_full).abs().mean() < 4
    reference.close()


def test_a_level_of_another_size_than_it_should_have_shows_the_same_part(tmp_path: Path) -> None:
    """Others may call a thumbnail of any size a half."""
    dali = pytest.importorskip("mixloader.pipelines.dali")
    members = [("a.jpg", encoded(photo(400, 300))), ("a.half.jpg", encoded(photo(170, 170, seed=1))), ("a.cls", b"0")]
    write_tar(tmp_path / "a.tar", members)
    shards = ShardSet(tmp_path)
    window = np.array([[0.5, 0.25, 1, 1]], np.float32)
    batch = replace(plan_for(shards, Whole(), 64, None).batch(0), window=window)
    assert Versions.of(batch, shards).read == [(0, 1)]
    expected = picture_of(PillowPipeline(shards).draw(batch)).float()
    for pipeline in (CpuPipeline(shards), dali.DaliPipeline(shards, threads=1)):
        assert (picture_of(pipeline.draw(batch)).float() - expected)[:, 2:-2, 2:-2].abs().max() <= 4
        pipeline.close()


@pytest.mark.parametrize("name", ["plain", "levels", "markers"])
def test_the_slots_that_the_cpu_pipeline_draws_are_the_region_map(sets: dict[str, ShardSet], name: str) -> None:
    from mixloader.batch import region_map

    for policy in POLICIES:
        batch = plan_for(sets[name], policy).batch(0)
        drawn = CpuPipeline(sets[name], threads=1).draw(batch)
        assert torch.equal(drawn.canvases[..., 3].float(), region_map(batch, torch.device("cpu")))
