"""Whole and Naive allocate as they say, whatever the losses; a run that cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.runs import random_losses, relaxed, runs, seeds
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.policies import Budget, Naive, Policy, Progressive, Run, Whole


@relaxed
@given(run=runs(epochs=8), seed=seeds, epoch=st.integers(0, 7))
def test_losses_do_not_matter_to_a_baseline(run: Run, seed: int, epoch: int) -> None:
    losses = random_losses(seed, run.samples)
    rng = np.random.default_rng(seed)
    expected: list[tuple[Policy, int, float]] = [
        (Whole(), run.image_size, 1),
        (Naive(), run.image_size, 0.5),
    ]
    for policy, side, share in expected:
        allocation = policy.allocate(run, epoch, losses, rng)
        assert (allocation.canvas_size, set(allocation.share)) == (side, {share})
        assert (allocation.weight == 1).all()


def test_naive_passes_its_mode_on() -> None:
    run = Run(10, 5, 64, 32, None)
    allocation = Naive("blend", "scale").allocate(run, 0, random_losses(0, 10), np.random.default_rng(0))
    assert (allocation.mixing, allocation.view) == ("blend", "scale")
    assert Naive().budget(run, 0).canvases == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": -3}, "batch_size must be at least 1, got -3"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"image_size": 225}, "take image_size=224 or 256"),
        ({"image_size": 20}, "take image_size=32, or"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 101, "drop_last": True}, "100 samples are fewer than batch_size=101"),
    ],
)
def test_a_run_that_cannot_be_is_refused(change: dict[str, int], message: str) -> None:
    facts = {"samples": 100, "batch_size": 10, "image_size": 224, "stride": 32, "epochs": 3}
    with pytest.raises(MixloaderError, match=message) as caught:
        Run(**(facts | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("drop_last", "steps"), [(False, 11), (True, 10)])
def test_steps_round_up_unless_the_last_is_dropped(drop_last: bool, steps: int) -> None:
    assert Run(105, 10, 64, 32, None, drop_last).steps == steps
    assert Run(100, 10, 64, 32, None, drop_last).steps == 10


@pytest.mark.parametrize("policy", [Naive(), Naive(view="scale"), Progressive(packed=True)], ids=repr)
def test_sharing_a_canvas_of_one_stride_is_refused_for_every_epoch(policy: Policy) -> None:
    run = Run(10, 5, 32, 32, 4)
    for epoch in range(4):
        with pytest.raises(MixloaderError, match="image_size=32 holds one stride of 32 pixels") as caught:
            policy.budget(run, epoch)
        assert str(caught.value).startswith(type(policy).__name__)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("policy", [Whole(), Naive("blend"), Progressive()], ids=repr)
def test_what_shares_no_canvas_may_have_one_stride(policy: Policy) -> None:
    assert policy.budget(Run(10, 5, 32, 32, 4), 0) is not None
    assert Naive().budget(Run(10, 1, 32, 32, 4), 0) == Budget(32, 1)  # nobody to share with


@pytest.mark.parametrize("name", ["samples", "batch_size", "image_size", "stride", "epochs"])
@pytest.mark.parametrize("value", ["4", 4.0, (224, 224), True], ids=str)
def test_a_fact_that_is_no_whole_number_is_refused(name: str, value: object) -> None:
    facts = {"samples": 100, "batch_size": 10, "image_size": 224, "stride": 32, "epochs": 3}
    with pytest.raises(MixloaderError, match=f"{name} must be a whole number, got") as caught:
        Run(**(facts | {name: value}))  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)
