"""An image that cannot be decoded costs its own region and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.images import encoded
from helpers.pictures import photo, picture_of, samples, sizes_of
from helpers.runs import build_plan

from mixloader.pipelines import Pipeline
from mixloader.pipelines.cpu import CpuPipeline
from mixloader.pipelines.pillow import PillowPipeline
from mixloader.plan import Plan
from mixloader.policies import Naive, Policy, Progressive, Run, Whole

pytest.importorskip("nvidia.dali")
from mixloader.pipelines.dali import DaliPipeline

JPEG, PNG = encoded(photo(300, 200)), encoded(photo(300, 200), "PNG")
BAD = {
    "garbage": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
    "empty": b"",
    "one byte": b"\xff",
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG's header": JPEG[:20],
    "half a PNG": PNG[: len(PNG) // 2],
    "a PNG's header": PNG[:40],
    "half a WebP": encoded(photo(300, 200), "WEBP")[:1500],
    "a web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
}
GOOD = [encoded(photo(100 + 20 * i, 120, seed=i), "PNG") for i in range(3)] + [encoded(photo(90, 90), "GIF")]


def breaking_off(jpeg: bytes) -> bytes:
    """The progressive JPEG, wrong enough to warn after its first scan, and then to be given up."""
    at = jpeg.index(b"\xff\xc4", jpeg.index(b"\xff\xda"))
    return jpeg[:at] + b"garbage" + jpeg[at : at + 5] + b"\xff" * 16 + jpeg[at + 21 :]


BAD["a progressive JPEG that breaks off"] = breaking_off(encoded(photo(300, 200), progressive=True))


def make(kind: str, pictures: list[bytes]) -> Pipeline:
    kinds = {"cpu": CpuPipeline, "dali": DaliPipeline, "pillow": PillowPipeline}
    return kinds[kind](samples(pictures), threads=1)  # type: ignore[no-any-return]


@pytest.fixture(params=["cpu", "dali", "pillow"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


def plan_for(pictures: list[bytes], policy: Policy, batch_size: int) -> Plan:
    run = Run(len(pictures), batch_size, 128, 32, 8)
    losses = np.random.default_rng(0)
    allocation = policy.allocate(run, 0, None, losses)  # type: ignore[arg-type]
    return build_plan(allocation, run, sizes_of(pictures), seed=0, epoch=0, budget=policy.budget(run, 0))


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("policy", [Whole(), Progressive(until=1, packed=True)], ids=["whole", "quads"])
def test_the_bad_one_is_named_and_black_and_the_others_are_drawn(kind: str, name: str, policy: Policy) -> None:
    pictures = [*GOOD[:2], BAD[name], *GOOD[2:]]
    plan = plan_for(pictures, policy, 5)
    batch = plan.batch(0)
    pipeline, healthy = make(kind, pictures), make(kind, [*GOOD[:2], GOOD[0], *GOOD[2:]])
    for _ in range(2):  # again, as in the next epoch
        drawn = pipeline.draw(batch)
        assert list(drawn.failed) == [2]
        assert drawn.failed[2]
        assert "\n" not in drawn.failed[2]
        expected = picture_of(healthy.draw(batch)).clone()
        row = int(np.flatnonzero(batch.sample == 2)[0])
        x0, y0, x1, y1 = batch.region[row]
        expected[batch.canvas[row], y0:y1, x0:x1] = 0
        assert torch.equal(picture_of(drawn), expected)
    pipeline.close()
    healthy.close()


def test_a_batch_of_bad_ones_is_black_and_the_next_is_drawn(kind: str) -> None:
    pictures = [*BAD.values(), *GOOD]
    run = Run(len(pictures), len(BAD), 128, 32, None)
    allocation = Naive().allocate(run, 0, None, None)  # type: ignore[arg-type]
    plan = build_plan(allocation, run, sizes_of(pictures), seed=0, epoch=0, shuffle=False)
    pipeline = make(kind, pictures)
    first = pipeline.draw(plan.batch(0))
    assert sorted(first.failed) == list(range(len(BAD)))
    assert not picture_of(first).any()
    second = pipeline.draw(plan.batch(1))
    assert second.failed == {}
    assert sum(bool(canvas.any()) for canvas in picture_of(second)) == len(np.unique(plan.batch(1).canvas))
    pipeline.close()


def test_a_bad_one_in_a_blend_leaves_its_part_dark(kind: str) -> None:
    pictures = [GOOD[0], BAD["garbage"]]
    run = Run(2, 2, 128, 32, None)
    allocation = Naive("blend").allocate(run, 0, None, None)  # type: ignore[arg-type]
    batch = build_plan(allocation, run, sizes_of(pictures), seed=0, epoch=0).batch(0)
    pipeline = make(kind, pictures)
    drawn = pipeline.draw(batch)
    alone = batch.without(batch.sample == 1)
    whole = replace(alone, slot=np.zeros(1, np.int8), opacity=np.ones(1, np.float32))
    assert list(drawn.failed) == [1]
    assert torch.allclose(picture_of(drawn), picture_of(make(kind, pictures).draw(whole)) * 0.5)
    pipeline.close()


@pytest.mark.parametrize("name", ["cpu", "dali"])
def test_what_only_pillow_decodes_is_drawn_through_pillow(name: str) -> None:
    gif = encoded(photo(90, 70, seed=4), "GIF")
    plan = plan_for([gif, GOOD[0]], Whole(), 2)
    mine, pillow = make(name, [gif, GOOD[0]]), make("pillow", [gif, GOOD[0]])
    for _ in range(2):
        ours, reference = mine.draw(plan.batch(0)), pillow.draw(plan.batch(0))
        assert ours.failed == {}
        assert (picture_of(ours).float() - picture_of(reference).float())[:, 2:-2, 2:-2].abs().max() <= 4
    pillow.close()
