"""Where the time of an epoch went. Times have generous margins: these tests run beside others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from helpers.loaders import Painter, write_damaged
from helpers.runs import PAIRS

from mixloader.errors import MixloaderWarning
from mixloader.loader import MixLoader
from mixloader.pipelines import Drawn
from mixloader.plan import Plan
from mixloader.policies import Progressive
from mixloader.stats import Stats

STAGES = {
    "cpu": {"plan", "read", "decode", "resize", "paste", "normalise"},
    "dali": {"plan", "draw", "normalise"},
    "pillow": {"plan", "draw", "normalise"},
}


class Slow(Painter):
    """Says of each batch that it took a minute, of which most went into dreaming."""

    def draw(self, batch: Plan) -> Drawn:
        return Drawn(super().draw(batch).canvases, seconds={"dream": 50.0, "draw": 10.0})


def test_before_the_first_epoch_there_is_nothing(make: Callable[..., MixLoader]) -> None:
    stats = make().stats()
    assert stats == Stats(0)
    assert (stats.waiting, stats.bottleneck) == (0, None)
    assert str(stats).endswith("took 0.0 s of threads: nothing")


def test_it_counts_what_was_handed_out(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline, policy=PAIRS, stride=16)
    for epoch in range(3):
        canvases = 0
        for step, (images, target) in enumerate(loader, 1):
            canvases += len(images)
            stats = loader.stats()
            assert (stats.epoch, stats.batches, stats.canvases) == (epoch, step, canvases)
            assert (target["ids"] >= 0).any()
        assert (stats.samples, stats.canvases) == (len(loader.plan), loader.plan.canvases)


def test_samples_that_cannot_be_decoded_are_not_counted(make: Callable[..., MixLoader], tmp_path: Path) -> None:
    loader = make(write_damaged(tmp_path))
    with pytest.warns(MixloaderWarning):
        list(loader)
    assert (loader.stats().samples, loader.stats().canvases) == (22, 28)


def test_small_canvases_count_as_canvases(make: Callable[..., MixLoader]) -> None:
    loader = make(policy=Progressive())
    assert {images.shape[-1] for images, _ in loader} == {32}
    assert (loader.stats().samples, loader.stats().canvases) == (24, 28)


def test_a_loop_that_does_nothing_waits(make: Callable[..., MixLoader]) -> None:
    loader = make(pipeline=Painter(seconds=0.03), batch_size=2)
    for _ in loader:
        pass
    stats = loader.stats()
    assert stats.waiting > 0.7
    assert stats.waited >= 0.3
    assert stats.waited <= stats.seconds


def test_a_loop_that_is_slow_does_not_wait(make: Callable[..., MixLoader]) -> None:
    loader = make(pipeline=Painter(), batch_size=2)
    for _ in loader:
        time.sleep(0.05)
    stats = loader.stats()
    assert stats.waiting < 0.4
    assert stats.seconds >= 12 * 0.05


def test_time_before_the_first_step_is_asked_for_is_no_waiting(make: Callable[..., MixLoader]) -> None:
    loader = make(pipeline=Painter())
    batches = iter(loader)
    time.sleep(0.5)
    assert len(list(batches)) == 4
    stats = loader.stats()
    assert stats.seconds >= 0.5
    assert stats.waiting < 0.6


def test_the_stages_have_names_and_times(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline)
    list(loader)
    stages = loader.stats().stages
    assert set(stages) == STAGES[pipeline]
    assert min(stages.values()) > 0
    turned = make(pipeline=pipeline, transform=lambda images: time.sleep(0.05) or -images)
    list(turned)
    stats = turned.stats()
    assert set(stats.stages) == STAGES[pipeline] | {"transform"}
    assert 0.2 <= stats.stages["transform"] < stats.seconds * 4


def test_a_pipeline_of_ones_own_names_its_stages(make: Callable[..., MixLoader]) -> None:
    loader = make(pipeline=Slow())
    list(loader)
    stats = loader.stats()
    assert stats.bottleneck == "dream"
    assert (stats.stages["dream"], stats.stages["draw"]) == (200, 40)
    assert "took 240." in str(stats)
    assert "threads: dream 83 %, draw 17 %, " in str(stats)


def test_a_pipeline_that_names_no_stages_draws(make: Callable[..., MixLoader]) -> None:
    loader = make(pipeline=Painter(seconds=0.1))
    list(loader)
    stats = loader.stats()
    assert stats.bottleneck == "draw"
    assert 0.4 <= stats.stages["draw"] < 2


def test_waiting_for_a_lane_is_no_stage(make: Callable[..., MixLoader]) -> None:
    """Two iterations share one lane; what each waits for the other's drawing is not work."""
    loader = make(pipeline=Painter(seconds=0.05), batch_size=4, prefetch=6)
    kept = iter(loader)
    next(kept)
    list(loader)
    assert sum(loader.stats().stages.values()) < 1.5 * 6 * 0.05


def test_every_epoch_has_its_own(make: Callable[..., MixLoader]) -> None:
    loader = make(pipeline=Slow())
    for epoch in range(3):
        assert len(list(loader)) == 4
        stats = loader.stats()
        assert (stats.epoch, stats.batches, stats.stages["dream"]) == (epoch, 4, 200)


def test_what_is_left_of_an_epoch_is_counted_alone(make: Callable[..., MixLoader]) -> None:
    first, second = make(), make()
    batches = iter(first)
    next(batches), next(batches), next(batches)
    second.load_state_dict(first.state_dict())
    assert len(list(second)) == 1
    assert (second.stats().epoch, second.stats().batches, second.stats().samples) == (0, 1, 3)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mixloader"]


def test_an_epoch_ends_with_one_line_in_the_log(
    make: Callable[..., MixLoader], caplog: pytest.LogCaptureFixture
) -> None:
    loader = make(pipeline=Slow())
    with caplog.at_level(logging.INFO, "mixloader"):
        for epoch in range(2):
            list(loader)
            (line,) = logged(caplog)
            assert line == str(loader.stats())
            assert line.startswith(f"epoch {epoch}: 4 batches of 24 samples in ")
            assert "\n" not in line
            assert caplog.records[-1].levelno == logging.INFO
            caplog.clear()


def test_an_epoch_that_was_left_has_no_line(make: Callable[..., MixLoader], caplog: pytest.LogCaptureFixture) -> None:
    loader = make()
    with caplog.at_level(logging.INFO, "mixloader"):
        for count in (1, 3):
            assert len(list(islice(loader, count))) == count
    assert logged(caplog) == []


def test_by_default_nothing_is_printed(make: Callable[..., MixLoader], capfd: pytest.CaptureFixture[str]) -> None:
    list(make())
    assert capfd.readouterr() == ("", "")


def test_a_peek_does_not_count(make: Callable[..., MixLoader]) -> None:
    loader = make()
    next(iter(loader))
    assert loader.stats() == Stats(0)
    list(loader)
    finished = loader.stats()
    next(iter(loader))
    assert loader.stats() == finished
    under_way = iter(loader)
    next(under_way), next(under_way)
    next(iter(loader))
    assert (loader.stats().epoch, loader.stats().batches) == (1, 2)


def test_the_first_batch_of_an_epoch_is_seen_while_it_is_under_way(make: Callable[..., MixLoader]) -> None:
    loader = make()
    list(loader)
    for step, _ in enumerate(loader, 1):
        assert (loader.stats().epoch, loader.stats().batches) == (1, step)
        break
    assert (loader.stats().epoch, loader.stats().batches) == (0, 4)  # it was left before it counted
