from __future__ import annotations

import time

import pytest

from mixloader.clock import Clock

PAUSE = 0.02


def test_time_goes_to_the_stage_that_it_was_spent_in() -> None:
    begun, clock = time.perf_counter(), Clock()
    for stage in ("read", "decode", "read"):
        time.sleep(PAUSE)
        clock.lap(stage)
    passed = time.perf_counter() - begun
    assert list(clock.seconds) == ["read", "decode"]
    assert clock.seconds["read"] >= 2 * PAUSE
    assert clock.seconds["decode"] >= PAUSE
    assert sum(clock.seconds.values()) <= passed


def test_what_another_clock_divided_takes_the_place_of_ones_own_time() -> None:
    clock = Clock()
    clock.lap("plan")
    planned = clock.seconds["plan"]
    time.sleep(PAUSE)
    clock.take({"decode": 5.0, "plan": 1.0})
    clock.lap("paste")
    assert clock.seconds["decode"] == 5
    assert clock.seconds["plan"] == planned + 1
    assert clock.seconds["paste"] < PAUSE  # the pause was part of what was taken


def test_a_clock_goes_on_from_what_was_spent_before() -> None:
    before = {"plan": 3.0}
    clock = Clock(before)
    time.sleep(PAUSE)
    clock.lap("plan")
    clock.lap("draw")
    assert clock.seconds["plan"] >= 3 + PAUSE
    assert before == {"plan": 3.0}


def test_time_before_a_clock_is_not_its_own() -> None:
    first = Clock()
    time.sleep(PAUSE)
    second = Clock(first.seconds)
    second.lap("draw")
    assert second.seconds == {"draw": pytest.approx(0, abs=PAUSE / 2)}
