"""Who is held against whom, and that everyone pays what it is held against."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mixloader.errors import MixloaderError
from mixloader.policies import MixTrain, Run
from mixloader.tools.bench.methods.contests import enter
from mixloader.tools.bench.methods.scoreboard import FEWER, PLAIN
from mixloader.tools.bench.methods.trial import Entry

COSTS = [0.7, 0.625, 0.5556, 0.5]
RUNS = {
    "fashion-mnist": Run(samples=4000, batch_size=64, image_size=28, stride=4, epochs=16, drop_last=True),
    "wesnoth": Run(samples=3000, batch_size=64, image_size=64, stride=8, epochs=16, drop_last=True),
}


def cost_of(entry: Entry, run: Run) -> float:
    """Passes relative to plain training of 16 epochs, from what the policy promises."""
    budgets = [entry.policy.budget(replace(run, epochs=entry.epochs), epoch) for epoch in range(entry.epochs)]
    passes = sum(budget.canvases * run.area(budget.canvas_size) for budget in budgets if budget)
    assert None not in budgets
    return passes / (16 * run.batch_size)


@pytest.mark.parametrize("data", RUNS)
@pytest.mark.parametrize(
    "entry", enter("rivals", COSTS, 16, ours=MixTrain()), ids=lambda entry: f"{entry.name}, {entry.cost:g}"
)
def test_every_rival_costs_what_it_is_held_against(entry: Entry, data: str) -> None:
    assert cost_of(entry, RUNS[data]) == pytest.approx(entry.cost, abs=0.02)


def test_every_cost_has_each_rival_once_and_plain_training_comes_first() -> None:
    entries = enter("rivals", COSTS, 16, ours=MixTrain())
    assert entries[0].name == PLAIN
    assert len({(entry.name, entry.cost) for entry in entries}) == len(entries)
    by_cost = {cost: {entry.name for entry in entries if entry.cost == cost} for cost in COSTS}
    everywhere = {FEWER, "MixTrain", "Progressive, step", "Progressive, ramp", "InfoBatch", "selective backprop"}
    for cost, names in by_cost.items():
        assert everywhere <= names
        assert ({"naive, spatial", "naive, blend"} <= names) == (cost == 0.5)
    assert {entry.name for entry in entries if entry.cost == 1} == {PLAIN, "plain with CutMix"}


def test_naive_mixing_is_held_against_nothing_that_it_does_not_cost() -> None:
    assert not [entry for entry in enter("rivals", [0.4], 16, ours=MixTrain()) if entry.name.startswith("naive")]


def test_a_name_picks_entries_and_never_leaves_out_what_they_are_measured_by() -> None:
    entries = enter("rivals", [0.5], 16, ours=MixTrain(), only=["MixTrain", "selective"])
    assert [entry.name for entry in entries] == [PLAIN, FEWER, "MixTrain", "MixTrain in pairs", "selective backprop"]


def test_a_name_that_no_entry_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(MixloaderError, match=r"--only mixup: no entry's name holds it; .*InfoBatch") as caught:
        enter("rivals", [0.5], 16, ours=MixTrain(), only=["MixTrain", "mixup"])
    assert "\n" not in str(caught.value)


def test_an_unknown_contest_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(MixloaderError, match="--contest rival: there are rivals, ") as caught:
        enter("rival", [0.5], 16, ours=MixTrain())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cost", [0, 1.5, float("inf"), float("nan"), -0.5])
def test_a_cost_that_nothing_has_is_refused_with_its_value(cost: float) -> None:
    with pytest.raises(MixloaderError, match=f"--costs {cost:g}: give numbers above 0, up to 1"):
        enter("rivals", [0.5, cost], 16, ours=MixTrain())


def test_ours_enters_as_the_setup_has_it_at_every_cost() -> None:
    ours = MixTrain(speedup=7, selection=0.25)
    for entry in enter("rivals", COSTS, 16, ours=ours):
        if entry.name == "MixTrain":
            assert entry.policy == replace(ours, speedup=1 / entry.cost)
