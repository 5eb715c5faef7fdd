"""Runs that are not kind: two loaders at once, iterations that are dropped, slow loops, bad losses, other processes."""

from __future__ import annotations

import os
import pickle
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import cls_members, write_tar
from helpers.loaders import bytes_of, drawing_threads, ids_of, network, train_step, wait_until
from helpers.other_processes import elsewhere, go_on, iterate
from helpers.runs import columns_of

from mixloader.loader import MixLoader
from mixloader.policies import InfoBatch, MixTrain, Policy, SelectiveBackprop
from mixloader.tools.bench.soak_run import Held

Make = Callable[..., MixLoader]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_tar(folder / "a.tar", cls_members([i % 3 for i in range(40)]))
    return folder


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    made: list[MixLoader] = []

    def loader(**options: Any) -> MixLoader:
        defaults: dict[str, Any] = {"policy": MixTrain(speedup=1.3), "epochs": 8, "stride": 16, "threads": 2}
        made.append(MixLoader(folder, 7, 64, **(defaults | options)))
        return made[-1]

    yield loader
    for each in made:
        each.close()


def trained(loader: MixLoader, steps: int = 1000) -> list[dict[str, bytes]]:
    """Train so many steps of an epoch; its batches."""
    model, batches = network(), []
    for batch, _ in zip(loader, range(steps), strict=False):
        batches.append(bytes_of(batch))
        train_step(model, batch)
    return batches


def test_two_loaders_in_one_process_draw_what_each_draws_alone(make: Make) -> None:
    alone = [trained(make(seed=seed)) for seed in (1, 2)]
    models, batches = [network(), network()], [[], []]  # type: ignore[var-annotated]
    for pair in zip(make(seed=1), make(seed=2), strict=True):
        for model, batch, found in zip(models, pair, batches, strict=True):
            found.append(bytes_of(batch))
            train_step(model, batch)
    assert batches == alone


def left_besides(before: Held) -> list[str]:
    """Threads and files that were not there before, once threads had their time to end."""
    deadline = time.monotonic() + 10
    while (left := Held.now().more_than(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_iterations_that_are_dropped_leave_nothing(make: Make, thorough: bool, note: Any) -> None:
    loader, times = make(epochs=2000), 1000 if thorough else 100
    next(iter(loader))
    before = Held.now()
    for _ in range(times):
        batches = iter(loader)
        next(batches), next(batches)
        del batches
    assert wait_until(lambda: not drawing_threads())
    left = left_besides(before)
    assert left == []
    note("dropped iterations", times=times, left=len(left))


def test_loaders_that_are_dropped_in_the_middle_of_an_epoch_leave_nothing(
    folder: Path, thorough: bool, note: Any
) -> None:
    times = 1000 if thorough else 100

    def drop() -> None:
        batches = iter(MixLoader(folder, 7, 64, policy=MixTrain(speedup=1.3), epochs=8, stride=16, threads=2))
        next(batches), next(batches)
        lost: list[object] = [batches]
        lost.append(lost)  # only a collection of garbage finds it

    drop()
    before = Held.now()
    for _ in range(times):
        drop()
    left = left_besides(before)
    growth = (Held.now().resident - before.resident) / 1e6
    assert left == []
    assert growth < 30
    note("dropped loaders", times=times, left=len(left), growth_mb=round(growth, 1))


@pytest.mark.parametrize("prefetch", [1, 3])
def test_a_slow_loop_has_no_more_batches_waiting_than_were_asked_for(make: Make, prefetch: int) -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def transform(picture: torch.Tensor) -> torch.Tensor:
        alive.add(picture)
        return picture.clone()

    loader = make(prefetch=prefetch, transform=transform)
    for _ in loader:
        torch.ones(200, 200) @ torch.ones(200, 200)
        most = max(most, len(alive))
    assert most <= prefetch + 2  # and those that are being drawn


def test_an_error_in_the_loop_leaves_a_loader_that_goes_on(make: Make) -> None:
    loader, other = make(), make()
    with suppress(ZeroDivisionError):
        for b, batch in enumerate(loader):
            train_step(network(), batch)
            assert 1 / (2 - b)
    assert loader.state_dict()["epoch"] == 1
    state = loader.state_dict()
    other.load_state_dict(state)
    assert ids_of(loader) == ids_of(other)  # the next epoch: this one was given up
    assert wait_until(lambda: not drawing_threads())


POLICIES = [MixTrain(speedup=1.3), InfoBatch(), SelectiveBackprop(speedup=1.3)]
BAD = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", BAD, ids=str)
@pytest.mark.parametrize(
    "policy", [MixTrain(speedup=1.3), InfoBatch(), SelectiveBackprop(speedup=1.3)], ids=lambda p: type(p).__name__
)
def test_a_loss_that_is_no_number_is_recorded_and_says_nothing_of_the_others(
    make: Make, policy: Policy, value: float
) -> None:
    """It is as if nothing were known of that sample; the plan of all others is made from theirs."""
    loader, blank = make(policy=policy), make(policy=policy)
    losses = torch.from_numpy(np.random.default_rng(0).gamma(1, 1, 40).astype(np.float32))
    losses[[4, 9]] = value
    for each, recorded in ((loader, torch.arange(40)), (blank, torch.arange(40)[losses.isfinite()])):
        each.ledger.begin(0)
        each.ledger.record(recorded, losses[recorded])
        each.set_epoch(3)
    found = loader.ledger.snapshot()
    assert np.array_equal(found.loss[[4, 9]], np.full(2, value, np.float32), equal_nan=True)
    assert found.known.sum() == 38
    plan = loader.plan
    plan.check()
    assert columns_of(plan) == columns_of(blank.plan)
    assert {4, 9} <= set(plan.sample.tolist())  # what is not known is drawn
    for images, _ in loader:
        assert images[:, :3].isfinite().all()


@pytest.mark.parametrize("value", BAD, ids=str)
def test_an_epoch_of_nothing_but_bad_losses_is_followed_by_another(make: Make, value: float) -> None:
    loader = make()
    for _ in range(3):
        for _, target in loader:
            ids = target["ids"].flatten()
            loader.ledger.record(ids, torch.full((len(ids),), value))
    assert not loader.ledger.snapshot().known.any()
    loader.plan.check()


USED = ["not yet", "an epoch", "in the middle"]
ELSEWHERE = [("fork", pipeline, used) for pipeline in ("cpu", "pillow") for used in USED]
ELSEWHERE += [("spawn", "cpu", used) for used in USED]  # which takes seconds
ELSEWHERE += [("spawn", "pillow", "in the middle")]


@pytest.mark.parametrize(("how", "pipeline", "used"), ELSEWHERE)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_loader_goes_on_in_another_process(make: Make, how: str, pipeline: str, used: str) -> None:
    loader, here = make(pipeline=pipeline), make(pipeline=pipeline)
    rest, other = iter(loader), iter(here)
    if used == "an epoch":
        for each in (rest, other):
            assert len(list(each)) == len(loader)
        rest, other = iter(loader), iter(here)
    if used == "in the middle":
        for each in (rest, other):
            next(each), next(each)
    expected = make(pipeline=pipeline)
    expected.load_state_dict(loader.state_dict())
    assert elsewhere(how, iterate, loader) == [bytes_of(batch) for batch in expected]
    # And this process goes on undisturbed.
    assert [bytes_of(batch) for batch in rest] == [bytes_of(batch) for batch in other]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_an_iteration_that_has_begun_does_not_go_on_in_a_fork(make: Make) -> None:
    loader = make(prefetch=1)
    batches = iter(loader)
    next(batches)
    assert "was forked from it: its threads are not here" in elsewhere("fork", go_on, batches)
    assert len(list(batches)) == len(loader) - 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_closing_in_a_fork_leaves_the_others_loader_alone(make: Make) -> None:
    loader = make()
    batches = iter(loader)
    next(batches)
    child = os.fork()
    if child == 0:  # pragma: no cover
        loader.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(batches)) == len(loader) - 1


@pytest.mark.parametrize(("how", "used"), [("fork", "not yet"), ("fork", "in the middle"), ("spawn", "in the middle")])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_dali_goes_on_in_another_process_or_says_that_it_does_not(make: Make, how: str, used: str) -> None:
    pytest.importorskip("nvidia.dali")
    loader, here, expected = (make(pipeline="dali") for _ in range(3))
    rest, other = iter(loader), iter(here)
    if used == "in the middle":
        for each in (rest, other):
            next(each), next(each)
    expected.load_state_dict(loader.state_dict())
    found = elsewhere(how, iterate, loader)
    assert isinstance(found, str) or found == [bytes_of(batch) for batch in expected]
    assert [bytes_of(batch) for batch in rest] == [bytes_of(batch) for batch in other]


def test_a_copy_by_pickle_is_the_same_run(make: Make) -> None:
    loader = make()
    trained(loader)
    with pickle.loads(pickle.dumps(loader)) as copied:
        assert trained(copied) == trained(loader)
