"""Canvas sides over the run: never smaller again, whole at the end, and fitted to a cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.runs import relaxed, runs
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.policies import Resolution, Run

resolutions = st.builds(
    Resolution, side=st.floats(0.01, 1), growth=st.sampled_from(["step", "ramp"]), end=st.floats(0, 1)
)
lengths = st.integers(1, 20)


@st.composite
def fits(draw: st.DrawFn) -> tuple[Resolution, Run, float, tuple[int, ...]]:
    """A resolution, a run, the passes of a batch of every epoch together, and the canvases of every epoch."""
    resolution, run = draw(resolutions), replace(draw(runs(cells=(1, 14))), epochs=draw(lengths))
    epochs = run.epochs or 0
    counts = st.integers(1, run.batch_size)
    uneven = draw(st.booleans())
    canvases = tuple(draw(st.lists(counts, min_size=epochs, max_size=epochs))) if uneven else (run.batch_size,) * epochs
    return resolution, run, draw(st.floats(0, 1)) * sum(canvases), canvases


def passes(run: Run, sides: tuple[int, ...], canvases: tuple[int, ...]) -> float:
    return sum((side / run.image_size) ** 2 * count for side, count in zip(sides, canvases, strict=True))


def check_sides(resolution: Resolution, run: Run, sides: tuple[int, ...]) -> None:
    """What holds of the sides of every run."""
    epochs = run.epochs or 0
    assert len(sides) == epochs
    assert all(side % run.stride == 0 and run.stride <= side <= run.image_size for side in sides)
    assert list(sides) == sorted(sides)
    end = min(epochs, max(1, round(resolution.end * epochs)))
    assert sides[-end:] == (run.image_size,) * end


@relaxed
@given(resolution=resolutions, run=runs(cells=(1, 14)), epochs=lengths, until=st.floats(0, 4))
def test_sides_never_fall_and_the_end_is_whole(resolution: Resolution, run: Run, epochs: int, until: float) -> None:
    run = replace(run, epochs=epochs)
    sides = resolution.sides(run, until)
    check_sides(resolution, run, sides)
    assert sides[0] >= run.canvas(resolution.side)
    if resolution.growth == "step":
        assert set(sides) <= {run.canvas(resolution.side), run.image_size}


@relaxed
@given(fits())
def test_a_fit_costs_at_most_what_was_asked_for(case: tuple[Resolution, Run, float, tuple[int, ...]]) -> None:
    resolution, run, wanted, canvases = case
    sides = resolution.fit(run, wanted, canvases)
    if sides is not None:
        check_sides(resolution, run, sides)
        assert passes(run, sides, canvases) <= wanted + 1e-6


@relaxed
@given(fits())
def test_a_fit_is_less_than_a_stride_of_one_epoch_below(case: tuple[Resolution, Run, float, tuple[int, ...]]) -> None:
    resolution, run, wanted, canvases = case
    sides = resolution.fit(run, wanted, canvases)
    if sides is None or min(sides) == run.image_size:
        return
    cells = run.image_size // run.stride
    stride_step = (1 - ((cells - 1) / cells) ** 2) * max(canvases)  # of the last stride, which costs most
    assert passes(run, sides, canvases) > wanted - stride_step - 1e-6


@relaxed
@given(fits())
def test_a_fit_is_none_only_where_the_smallest_canvases_cost_more(
    case: tuple[Resolution, Run, float, tuple[int, ...]],
) -> None:
    resolution, run, wanted, canvases = case
    smallest = passes(run, replace(resolution, growth="step").sides(run, 1.0), canvases)
    if abs(smallest - wanted) > 1e-6:
        assert (resolution.fit(run, wanted, canvases) is None) == (smallest > wanted)


@relaxed
@given(resolution=resolutions, run=runs(cells=(1, 14)), epochs=lengths)
def test_the_full_cost_is_all_whole(resolution: Resolution, run: Run, epochs: int) -> None:
    run, canvases = replace(run, epochs=epochs), (run.batch_size,) * epochs
    assert resolution.fit(run, float(sum(canvases)), canvases) == (run.image_size,) * epochs


RUN = Run(samples=100, batch_size=10, image_size=64, stride=8, epochs=8)


def test_a_step_by_hand() -> None:
    assert Resolution(0.5, "step").sides(RUN, 0.5) == (32,) * 4 + (64,) * 4


def test_a_ramp_by_hand() -> None:
    assert Resolution(0.5, "ramp").sides(replace(RUN, stride=4), 0.5) == (36, 44, 52, 60, 64, 64, 64, 64)


def test_the_end_cuts_what_would_still_be_small() -> None:
    assert Resolution(0.5, "step", end=0.25).sides(RUN, 1) == (32,) * 6 + (64,) * 2
    assert Resolution(0.5, "step", end=0).sides(RUN, 1)[-1] == 64


def test_a_fit_by_hand() -> None:
    """Six small ones of 8 cost 3.5 of the 4: the last one gets 9/16 instead of 1/4, the one before it 25/64."""
    sides = Resolution(0.5, "step").fit(RUN, 40.0, (10,) * 8)
    assert sides == (32, 32, 32, 32, 40, 48, 64, 64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("side", 0),
        ("side", 1.1),
        ("side", float("nan")),
        ("side", "half"),
        ("end", -0.1),
        ("end", 1.5),
        ("end", None),
        ("growth", "jump"),
        ("growth", 2),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_with_its_value(name: str, value: Any) -> None:
    with pytest.raises(MixloaderError, match=rf"Resolution: {name} must be .* got {value!r}") as caught:
        Resolution(**{name: value})
    assert "\n" not in str(caught.value)
