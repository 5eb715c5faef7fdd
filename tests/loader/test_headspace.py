"""Headspace: an epoch whose first batch is drawn once and handed out in place of every other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.loaders import Painter, bytes_of, drawing_threads, ids_of
from helpers.runs import PAIRS

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader
from mixloader.pipelines import Drawn
from mixloader.plan import Plan


class Counted(Painter):
    """Knows which batches it drew, by their samples."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(lanes=2, seconds=seconds)
        self.drawn: list[list[int]] = []

    def draw(self, batch: Plan) -> Drawn:
        self.drawn.append(sorted(batch.sample.tolist()))
        return super().draw(batch)


def test_every_batch_is_the_first_of_the_epoch(make: Callable[..., MixLoader], pipeline: str) -> None:
    expected = bytes_of(next(iter(make(pipeline=pipeline, seed=4))))
    loader = make(pipeline=pipeline, seed=4, headspace=True)
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    assert all(bytes_of(batch) == expected for batch in batches)
    assert len({images.data_ptr() for images, _ in batches}) == 1  # handed out, not copied


def test_an_epoch_draws_once(make: Callable[..., MixLoader]) -> None:
    mine = Counted()
    loader = make(pipeline=mine, headspace=True)
    for epoch in range(1, 4):
        ids = ids_of(loader)
        assert len(mine.drawn) == epoch
        assert [sorted(i for i in batch if i >= 0) for batch in ids] == [mine.drawn[-1]] * 4
    assert mine.drawn[0] != mine.drawn[1] != mine.drawn[2]  # each epoch its own


def test_epochs_go_on_counting(make: Callable[..., MixLoader]) -> None:
    plain, loader = make(epochs=2), make(epochs=2, headspace=True)
    for _ in range(2):
        assert ids_of(loader)[0] == ids_of(plain)[0]
        assert loader.stats().epoch == plain.stats().epoch
    with pytest.raises(MixloaderError, match="epoch 2 is outside the run"):
        iter(loader)


def test_a_peek_does_not_use_up_an_epoch(make: Callable[..., MixLoader]) -> None:
    loader = make(headspace=True)
    assert ids_of([next(iter(loader))]) * 4 == ids_of(loader)


def test_the_canvases_are_the_plans(make: Callable[..., MixLoader]) -> None:
    """The policy decides how many there are and how large, as without headspace."""
    options = {"policy": PAIRS, "stride": 16, "batch_size": 8}
    plain, loader = make(**options), make(headspace=True, **options)
    for _ in range(3):
        assert [images.shape for images, _ in loader] == [images.shape for images, _ in plain]
        assert torch.isfinite(next(iter(loader))[0]).all()


def test_no_thread_is_left_once_the_batch_is_drawn(make: Callable[..., MixLoader]) -> None:
    before = drawing_threads("mixloader-draw")
    batches = iter(make(headspace=True))
    next(batches)
    assert drawing_threads("mixloader-draw") == before


def test_what_cannot_be_drawn_fails_the_first_step(make: Callable[..., MixLoader]) -> None:
    class Broken(Painter):
        def draw(self, batch: Plan) -> Drawn:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        next(iter(make(pipeline=Broken(), headspace=True)))


def test_the_time_of_the_one_drawing_counts_once(make: Callable[..., MixLoader]) -> None:
    pause = 0.1
    loader = make(pipeline=Counted(pause), batch_size=2, headspace=True)
    assert len(list(loader)) == 12
    stats = loader.stats()
    assert (stats.batches, stats.samples) == (12, 24)
    assert pause <= stats.stages["draw"] < 4 * pause
    assert stats.waited >= pause
