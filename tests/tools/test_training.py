"""The training loop of the demo and the benchmark: its schedule, and CutMix as plain training's augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixloader.loader import MixLoader
from mixloader.split import split_model
from mixloader.tools.networks import small_resnet
from mixloader.tools.training import Recipe, _cutmix, accuracy, train

CLASSES = 6
IMAGES, LABELS = torch.rand(6, 3, 20, 20), torch.arange(6)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@given(progress=st.floats(0, 1), warmup=st.floats(0.01, 0.5), rate=st.floats(1e-4, 1))
def test_the_rate_rises_over_the_warmup_and_falls_to_nothing(progress: float, warmup: float, rate: float) -> None:
    recipe = Recipe(10, rate=rate, warmup=warmup)
    assert 0 <= recipe.rate_at(progress) <= rate * (1 + 1e-9)
    assert recipe.rate_at(0) == 0
    assert recipe.rate_at(warmup) == pytest.approx(rate)
    assert recipe.rate_at(1) == pytest.approx(0, abs=1e-9)
    later = min(1.0, progress + 0.01)
    change = recipe.rate_at(later) - recipe.rate_at(progress)
    assert change >= 0 if later <= warmup else (change <= 0 or progress < warmup)


def test_without_a_warmup_it_begins_at_the_highest_rate() -> None:
    assert Recipe(10, rate=0.2, warmup=0).rate_at(0) == 0.2


def test_no_chance_leaves_the_images_and_makes_labels_one_hot() -> None:
    images, labels = _cutmix(0.0, CLASSES)(IMAGES, LABELS)
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, torch.eye(6))


def test_labels_are_mixed_as_much_as_pixels() -> None:
    augment, mixed = _cutmix(1.0, CLASSES), 0
    for _ in range(20):
        images, labels = augment(IMAGES, LABELS)
        assert images.shape == IMAGES.shape
        assert labels.shape == (6, CLASSES)
        assert torch.allclose(labels.sum(dim=1), torch.ones(6))
        for image, label, source in zip(images, labels, range(6), strict=True):
            own = (image == IMAGES[source]).all(dim=0).float().mean()  # of its pixels
            assert float(label[source]) == pytest.approx(float(own), abs=1e-6)
            mixed += bool(own < 1)
    assert mixed > 60  # of 120: it hardly ever cuts nothing


def test_a_batch_is_mixed_as_often_as_asked() -> None:
    augment = _cutmix(0.25, CLASSES)
    kept = sum(torch.equal(augment(IMAGES, LABELS)[0], IMAGES) for _ in range(400))
    assert 0.68 < kept / 400 < 0.85  # those that are mixed with nothing of another included


@pytest.mark.filterwarnings("error")
def test_a_run_with_it_trains_and_tells_what_its_epochs_were_like(shards: Path) -> None:
    model = split_model(small_resnet(3, 4, (0, 0)))
    with MixLoader(shards, 8, 32, epochs=2, stride=4, drop_last=True) as loader:
        epochs = train(model, loader, Recipe(2, batch_size=8, cutmix=1.0))
    assert [(epoch.cost, epoch.shares) for epoch in epochs] == [(24, {1.0: 24})] * 2
    assert all(math.isnan(epoch.loss) for epoch in epochs)  # mixed: no image has a loss of its own


def test_a_run_calls_back_after_every_step_and_epoch(shards: Path) -> None:
    model = split_model(small_resnet(3, 4, (0, 0)))
    steps: list[int] = []
    ended: list[int] = []
    with MixLoader(shards, 8, 32, epochs=2, stride=4) as loader:
        epochs = train(model, loader, Recipe(2, batch_size=8), lambda: steps.append(len(ended)), ended.append)
        losses = loader.ledger.snapshot()
    assert steps == [0] * 3 + [1] * 3
    assert ended == [0, 1]
    assert epochs[1].loss == pytest.approx(float(losses.loss.mean()))
    assert all(epoch.seconds > 0 for epoch in epochs)
    with MixLoader(shards, 24, 32, stride=4, augment=None, shuffle=False) as test:
        assert accuracy(model, test) in [pytest.approx(100 * right / 24) for right in range(25)]


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_a_recipe_opens_its_optimizer(optimizer: str, kind: type) -> None:
    recipe = Recipe(1, rate=0.3, optimizer=optimizer, decay=0.01)  # type: ignore[arg-type]
    opened = recipe.open_optimizer(torch.nn.Linear(2, 2))
    assert type(opened) is kind
    assert (opened.param_groups[0]["lr"], opened.param_groups[0]["weight_decay"]) == (0.3, 0.01)
