"""Samples that cannot be drawn: skipped within a budget, or a reason to stop; always by name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.loaders import Painter, ids_of, write_damaged

from mixloader.errors import FailureBudgetError, MixloaderError, MixloaderWarning, UndecodableError
from mixloader.loader import MixLoader
from mixloader.pipelines import Drawn
from mixloader.plan import Plan

Make = Callable[..., MixLoader]


def test_raise_stops_at_the_first_batch_that_lacks_a_sample(make: Make, pipeline: str, tmp_path: Path) -> None:
    loader = make(write_damaged(tmp_path), batch_size=2, shuffle=False, on_error="raise", pipeline=pipeline, threads=4)
    batches = iter(loader)
    assert ids_of([next(batches) for _ in range(2)])[1][:1] == [2]  # though what is damaged is drawn ahead
    with pytest.raises(UndecodableError, match=r"sample 5 \(web.tar: member '0005' at offset \d+\) .* on_error='skip'"):
        next(batches)
    assert loader.failed == {}


@pytest.mark.parametrize("budget", [0, 1, 0.0, 0.05])
def test_more_failures_than_the_budget_stop_the_run_and_are_named(make: Make, budget: float, tmp_path: Path) -> None:
    loader = make(write_damaged(tmp_path), failure_budget=budget)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixloaderWarning)
        with pytest.raises(FailureBudgetError, match=f"failure_budget={budget} allows") as caught:
            list(loader)
    assert "sample" in str(caught.value)
    assert "web.tar" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("budget", [2, 0.1, 1.0])
def test_failures_within_the_budget_are_told_of_at_the_end_of_the_epoch(
    make: Make, budget: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loader = make(write_damaged(tmp_path), failure_budget=budget)
    with pytest.warns(MixloaderWarning, match="cannot be drawn"), caplog.at_level(logging.WARNING, "mixloader"):
        list(loader)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("epoch 0: 2 of 24 samples were left out")
    assert "sample 5 (web.tar" in line
    assert "sample 7 (web.tar" in line


def test_only_the_first_failures_are_warned_of_one_by_one(make: Make, tmp_path: Path) -> None:
    loader = make(write_damaged(tmp_path, bad=range(15)), failure_budget=1.0, shuffle=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(loader)
    assert len(caught) == 10
    assert "only loader.failed" in str(caught[-1].message)
    assert sorted(loader.failed) == list(range(15))


@pytest.mark.parametrize("budget", [-1, 1.5, -0.1, True, "1 %", None, float("nan")])
def test_a_budget_that_is_none_is_refused(make: Make, budget: object) -> None:
    with pytest.raises(MixloaderError, match="failure_budget="):
        make(failure_budget=budget)


def test_an_unknown_policy_for_errors_is_refused(make: Make) -> None:
    with pytest.raises(MixloaderError, match="on_error='ignore' is unknown: take 'skip' or 'raise'"):
        make(on_error="ignore")


class Faulty(Painter):
    def draw(self, batch: Plan) -> Drawn:
        raise TypeError("a bug")


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_a_programming_error_is_never_taken_for_bad_data(make: Make, on_error: str) -> None:
    with pytest.raises(TypeError, match="a bug"):
        list(make(pipeline=Faulty(), on_error=on_error))

    def transform(picture: torch.Tensor) -> torch.Tensor:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        list(make(transform=transform, on_error=on_error))
