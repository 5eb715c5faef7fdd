"""All pipelines draw the same picture from a plan, and so does anyone with ten lines of Pillow."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.images import encoded
from helpers.pictures import gallery, huge, photo, picture_of, plain_pillow, samples, sizes_of, windowed
from helpers.runs import PAIRS, build_plan, random_losses
from PIL import Image

from mixloader.pipelines import Pipeline
from mixloader.pipelines.cpu import CpuPipeline
from mixloader.pipelines.pillow import PillowPipeline
from mixloader.plan import Plan
from mixloader.planning import Augment
from mixloader.policies import Ladder, Naive, Policy, Progressive, Run, Whole

pytest.importorskip("nvidia.dali")
from mixloader.pipelines.dali import DaliPipeline

LOOKS = {
    "whole": Whole(),
    "small": Progressive(until=1),
    "pairs": Naive(),
    "pairs at scale": Naive(view="scale"),
    "unequal pairs": replace(PAIRS, ladder=Ladder(drop=0, half=1, spread=0.2)),
    "quads": Progressive(until=1, packed=True),
    "blends": Naive("blend"),
}


def plan_for(pictures: list[bytes], policy: Policy, augment: Augment | None, batch_size: int = 7) -> Plan:
    run = Run(len(pictures), batch_size, 224, 32, 8)
    losses = random_losses(0, len(pictures))
    allocation = policy.allocate(run, 1, losses, np.random.default_rng(0))
    budget = policy.budget(run, 1)
    return build_plan(allocation, run, sizes_of(pictures), seed=1, epoch=1, budget=budget, augment=augment)


KINDS: dict[str, Callable[..., Pipeline]] = {"cpu": CpuPipeline, "dali": DaliPipeline, "pillow": PillowPipeline}

# Where a picture is made smaller, the filter reaches over the window's border: there DALI sees the border again.
MOST_APART = {"cpu": 4, "dali": 28}


@pytest.fixture(scope="module")
def pipelines() -> Iterator[dict[str, Pipeline]]:
    """All of them, on the gallery."""
    shards = samples(list(gallery().values()))
    made = {name: kind(shards, threads=1) for name, kind in KINDS.items()}
    yield made
    for pipeline in made.values():
        pipeline.close()


def assert_same(pipelines: dict[str, Pipeline], plan: Plan, names: list[str]) -> None:
    for b in range(plan.batches):
        batch = plan.batch(b)
        drawn = {name: pipeline.draw(batch) for name, pipeline in pipelines.items()}
        assert {name: each.failed for name, each in drawn.items()} == {name: {} for name in drawn}
        reference = picture_of(drawn["pillow"])
        assert reference.shape == (plan.canvases_per_batch, *[plan.canvas_size] * 2, 3)
        for name, most in MOST_APART.items():
            canvases = picture_of(drawn[name])
            assert (canvases.shape, canvases.dtype) == (reference.shape, reference.dtype)
            apart = (canvases.float() - reference.float()).abs()
            for row, (x0, y0, x1, y1) in enumerate(batch.region):
                here = apart[batch.canvas[row], y0:y1, x0:x1]
                assert here.mean() < 1, (name, names[batch.sample[row]])
                assert here.max() <= most, (name, names[batch.sample[row]])
                assert here[2:-2, 2:-2].max() <= 4, (name, names[batch.sample[row]])


@pytest.mark.parametrize("augment", [Augment(), None], ids=["augmented", "centred"])
@pytest.mark.parametrize("look", LOOKS)
def test_all_pipelines_draw_the_same(pipelines: dict[str, Pipeline], look: str, augment: Augment | None) -> None:
    pictures = gallery()
    assert_same(pipelines, plan_for(list(pictures.values()), LOOKS[look], augment), list(pictures))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest takes out the library's filter
def test_a_picture_of_12000_by_9000_is_drawn_the_same() -> None:
    pictures = [huge(), gallery()["png"]]
    shards = samples(pictures)
    made = {name: kind(shards, threads=1) for name, kind in KINDS.items()}
    assert_same(made, plan_for(pictures, Naive(), Augment(), 2), ["huge", "png"])
    for pipeline in made.values():
        pipeline.close()


@pytest.mark.parametrize("kind", KINDS)
def test_each_draws_what_anyone_draws_with_plain_pillow(kind: str) -> None:
    pictures = [encoded(photo(300, 200 + 10 * i, seed=i), "PNG", orientation=i % 8 + 1) for i in range(16)]
    plan = plan_for(pictures, Naive(), Augment(), 16)
    canvases = [Image.new("RGB", (224, 224)) for _ in range(plan.canvases)]
    for row in range(len(plan)):
        x0, y0, x1, y1 = plan.region[row].tolist()
        image = windowed(plain_pillow(pictures[plan.sample[row]]), plan.window[row], (x1 - x0, y1 - y0))
        if plan.flip[row]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        canvases[plan.canvas[row]].paste(image, (x0, y0))
    expected = torch.from_numpy(np.stack([np.asarray(canvas) for canvas in canvases])).float()
    pipeline = KINDS[kind](samples(pictures), threads=1)
    assert (picture_of(pipeline.draw(plan.batch(0))).float() - expected).abs().mean() < 1
    pipeline.close()


def test_drawing_leaves_the_processes_warning_filters_alone() -> None:
    """Many threads decode at once, while the training loop may set filters of its own."""
    shards = samples([encoded(photo(64, 64), "PNG")] * 64)
    plan = plan_for([encoded(photo(64, 64), "PNG")] * 64, Whole(), None, 64)
    pipeline = PillowPipeline(shards)
    changed = []
    with warnings.catch_warnings():
        before = warnings.filters
        drawing = [threading.Thread(target=pipeline.draw, args=(plan.batch(0),)) for _ in range(8)]
        for thread in drawing:
            thread.start()
        while any(thread.is_alive() for thread in drawing):
            changed.append(warnings.filters is not before)
        changed.append(warnings.filters is not before)
    assert not any(changed)


def test_a_batch_without_samples_is_drawn_black(pipelines: dict[str, Pipeline]) -> None:
    plan = plan_for(list(gallery().values()), Naive(), None)
    nothing = plan.batch(0).without(np.ones(len(plan.batch(0)), np.bool_))
    for pipeline in pipelines.values():
        picture = picture_of(pipeline.draw(nothing))
        assert picture.shape == (4, 224, 224, 3)
        assert not picture.any()
