"""Threads and lanes change nothing but the time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from helpers.loaders import (
    PLAIN,
    Painter,
    bytes_of,
    drawing_threads,
    wait_until,
)
from helpers.runs import PAIRS
from torch import Tensor

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader
from mixloader.pipelines import Drawn
from mixloader.plan import Plan
from mixloader.policies import Naive, Policy, Whole


@pytest.mark.parametrize("options", [{"threads": 3}, {"prefetch": 1}, {"prefetch": 9, "threads": 2}])
def test_threads_and_prefetch_change_nothing(
    make: Callable[..., MixLoader], pipeline: str, options: dict[str, int]
) -> None:
    with_options = make(pipeline=pipeline, policy=Naive(), seed=5, **options)
    for (images, target), (others, other) in zip(
        with_options, make(pipeline=pipeline, policy=Naive(), seed=5), strict=True
    ):
        assert torch.equal(images, others)
        assert torch.equal(target["ids"], other["ids"])


def test_two_iterations_at_once_do_not_disturb_each_other(make: Callable[..., MixLoader], pipeline: str) -> None:
    expected = [images.clone() for images, _ in make(pipeline=pipeline, image_size=224)]
    loader = make(pipeline=pipeline, image_size=224)
    kept = iter(loader)  # peeked at, and kept: it goes on drawing ahead
    first = next(kept)[0]
    for images, other in zip(loader, expected, strict=True):
        assert torch.equal(images[0], other)
    assert torch.equal(first, expected[0])
    assert torch.equal(next(kept)[0], expected[1])


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_a_pipeline_of_ones_own_is_called_as_often_at_once_as_it_has_lanes(
    make: Callable[..., MixLoader], lanes: int
) -> None:
    mine = Painter(lanes, seconds=0.005)
    loader = make(pipeline=mine, batch_size=2, prefetch=9, mean=(0, 0, 0), std=(1, 1, 1))
    kept = iter(loader)
    next(kept)
    assert all(torch.allclose(images[:, :3], torch.tensor(0.2)) for images, _ in loader)
    kept = iter(loader)
    next(kept)
    loader.close()
    assert mine.closed
    assert not mine.closed_while_busy
    assert mine.most == lanes


class Turtle(Painter):
    """A pipeline of two lanes whose every other batch takes much longer; a canvas is its first sample's number."""

    def draw(self, batch: Plan) -> Drawn:
        first = int(batch.sample[0])
        self.seconds = 0.03 * (first // 2 % 2 == 0)
        drawn = super().draw(batch)
        return Drawn(torch.full_like(drawn.canvases, first))


def test_batches_come_in_order_however_long_each_takes(make: Callable[..., MixLoader]) -> None:
    mine = Turtle(lanes=2)
    loader = make(pipeline=mine, batch_size=2, prefetch=4, shuffle=False, **PLAIN)
    shown = [(int(images[0, 0, 0, 0].round()), int(target["ids"][0, 0])) for images, target in loader]
    assert shown == [(first, first) for first in range(0, 24, 2)]
    assert mine.most == 2


@pytest.mark.parametrize("policy", [Whole(), Naive("blend"), PAIRS], ids=repr)
def test_two_lanes_draw_the_batches_of_one_thread(make: Callable[..., MixLoader], policy: Policy) -> None:
    dali = pytest.importorskip("mixloader.pipelines.dali")
    shards = make().shards
    assert [dali.DaliPipeline(shards, threads=threads).lanes for threads in (1, 2, 5)] == [1, 2, 2]
    options = {"pipeline": "dali", "policy": policy, "batch_size": 3, "prefetch": 4, "stride": 16}
    one, two = make(threads=1, **options), make(threads=2, **options)
    for _ in range(2):
        batches = [bytes_of(batch) for batch in one]
        assert [bytes_of(batch) for batch in two] == batches
        assert len(batches) == 8


def test_a_lane_that_fails_fails_its_own_step(make: Callable[..., MixLoader]) -> None:
    class Third(Painter):
        def draw(self, batch: Plan) -> Drawn:
            if 4 in batch.sample:
                raise ZeroDivisionError("mine")
            return super().draw(batch)

    before = drawing_threads("mixloader-draw")
    batches = iter(make(pipeline=Third(lanes=2), batch_size=2, prefetch=5, shuffle=False))
    assert [next(batches)[1]["ids"][0, 0].item() for _ in range(2)] == [0, 2]
    with pytest.raises(ZeroDivisionError, match="mine"):
        next(batches)
    assert drawing_threads("mixloader-draw") == before


def test_no_thread_outlives_an_iteration_or_the_loader(make: Callable[..., MixLoader], pipeline: str) -> None:
    before, drawing = len(drawing_threads()), len(drawing_threads("mixloader-draw"))
    loader = make(pipeline=pipeline, threads=2)
    batches = iter(loader)
    next(batches)
    assert len(drawing_threads("mixloader-draw")) > drawing
    del batches
    assert wait_until(lambda: len(drawing_threads("mixloader-draw")) == drawing)
    for _ in loader:
        pass
    assert wait_until(lambda: len(drawing_threads("mixloader-draw")) == drawing)
    loader.close()
    loader.close()
    assert len(drawing_threads()) <= before


def test_a_closed_loader_cannot_be_iterated_over(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline)
    under_way = iter(loader)
    next(under_way)
    loader.close()
    with pytest.raises(MixloaderError, match="closed"):
        list(under_way)
    with pytest.raises(MixloaderError, match="closed"):
        list(loader)


def test_drawing_ahead_stops_at_prefetch(make: Callable[..., MixLoader]) -> None:
    """A slow network must not make the loader fill the memory with batches."""
    drawn: list[int] = []
    loader = make(batch_size=1, prefetch=3, transform=lambda images: drawn.append(1) or images)
    batches = iter(loader)
    next(batches)
    time.sleep(0.5)
    assert 1 < len(drawn) <= 4


def test_a_drawing_thread_works_alone_and_the_training_thread_keeps_its_threads(make: Callable[..., MixLoader]) -> None:
    """Otherwise torch gives every thread that draws a team of its own."""
    before, seen = torch.get_num_threads(), []

    def transform(picture: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return picture

    list(make(pipeline="cpu", threads=3, transform=transform))
    assert len(seen) == 4
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
