"""What a contact sheet shows of a plan."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.runs import allocations, build_plan, random_sizes, relaxed, runs, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.plan import Plan
from mixloader.tools.sheet.excerpt import format_loss


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    run, seed = draw(runs()), draw(seeds)
    return build_plan(draw(allocations(run)), run, random_sizes(seed, run.samples), seed=seed, epoch=0)


@relaxed
@given(plan=plans(), data=st.data())
def test_canvases_are_taken_whole_and_in_the_order_asked_for(plan: Plan, data: st.DataObject) -> None:
    numbers = st.lists(st.sampled_from(range(plan.canvases)), max_size=5) if plan.canvases else st.just([])
    canvases = np.array(data.draw(numbers), np.int64)
    taken = plan.take(canvases)
    taken.check()
    assert (taken.batches, taken.canvases) == (1, len(canvases))
    for number, canvas in enumerate(canvases):
        for name in ("slot", "sample", "region", "window", "flip", "weight", "opacity"):
            column, source = getattr(taken, name), getattr(plan, name)
            assert np.array_equal(column[taken.canvas == number], source[plan.canvas == canvas])


@relaxed
@given(plan=plans())
def test_a_canvas_outside_the_plan_is_refused(plan: Plan) -> None:
    for canvas in (-1, plan.canvases):
        with pytest.raises(IndexError, match=f"canvas {canvas} of a plan of {plan.canvases} canvases"):
            plan.take(np.array([*range(plan.canvases), canvas]))


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (0.0031, "0.0031"),
        (0.00999, "0.010"),
        (0.23, "0.23"),
        (0.5, "0.50"),
        (1.8, "1.8"),
        (12.4, "12"),
        (1234, "1234"),
        (1e-5, "<0.001"),
        (0, "<0.001"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_losses_have_two_digits(loss: float, text: str) -> None:
    assert format_loss(loss) == text


@given(st.floats(0.001, 1e6))
def test_losses_are_shown_without_exponents_and_near_what_they_are(loss: float) -> None:
    text = format_loss(loss)
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    assert float(text) == pytest.approx(loss, rel=0.0501)
