"""What a batch is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers.loaders import (
    PLAIN,
    PlanDataset,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses
from mixloader.loader import IMAGENET_MEAN, IMAGENET_STD, MixLoader
from mixloader.policies import Allocation, Budget, Naive, Policy, Progressive, Run
from mixloader.policies.policy import LARGEST_COMPOSITE
from mixloader.split import SLOTS


def test_whole_batches_equal_a_plain_loaders(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline, seed=3, **PLAIN)
    plain = DataLoader(PlanDataset(loader.shards, loader.plan), batch_size=7)
    steps = 0
    for (images, target), (expected, labels) in zip(loader, plain, strict=True):
        filled = target["labels"][:, 0] >= 0
        assert target["labels"][filled, 0].tolist() == labels.tolist()
        assert filled[: len(labels)].all()
        assert (images[filled, :3] - expected).abs().mean() < 1
        steps += 1
    assert steps == len(loader) == 4


def test_unshuffled_and_unaugmented_it_is_a_validation_loader(make: Callable[..., MixLoader]) -> None:
    loader = make(shuffle=False, augment=None)
    ids = [i for _, target in loader for i in target["ids"][:, 0].tolist()]
    assert ids == [*range(24), *[-1] * 4]


def test_a_short_last_batch_is_padded_with_empty_canvases(make: Callable[..., MixLoader], pipeline: str) -> None:
    loader = make(pipeline=pipeline, **PLAIN)
    batches = [(images.clone(), target) for images, target in loader]
    assert {tuple(images.shape) for images, _ in batches} == {(7, 4, 64, 64)}
    images, target = batches[-1]
    assert (target["labels"][:3, 0] >= 0).all()
    assert (target["labels"][3:] == -100).all()
    assert (target["ids"][3:] == -1).all()
    assert not target["weights"][3:].any()
    assert not target["shares"][3:].any()
    assert (images[3:, 3] == -1).all()
    shown = [[torch.equal(copy, picture) for picture in images[:3, :3]].index(True) for copy in images[3:, :3]]
    assert sorted(shown) == [0, 0, 1, 2]  # pictures of the batch, each as often as the others, or once more


def test_drop_last_leaves_the_short_batch_out(make: Callable[..., MixLoader]) -> None:
    loader = make(drop_last=True)
    targets = [target for _, target in loader]
    assert len(targets) == len(loader) == 3
    assert all((target["labels"][:, 0] >= 0).all() for target in targets)


@pytest.mark.parametrize("policy", [Naive(), Naive("blend"), Progressive(packed=True), Progressive()], ids=repr)
def test_targets_and_region_maps_say_what_the_plan_says(make: Callable[..., MixLoader], policy: Policy) -> None:
    loader = make(policy=policy, stride=16)
    plan, labels = loader.plan, loader.shards.labels
    for b, (images, target) in enumerate(loader):
        batch = plan.batch(b)
        side = batch.canvas_size
        assert images.shape == (batch.canvases_per_batch, 4, side, side)
        expected = torch.full((batch.canvases_per_batch, side, side), -1.0)
        slots = {name: torch.zeros(batch.canvases_per_batch, 4) for name in ("weights", "norms", "shares")}
        slots |= {"labels": torch.full(slots["weights"].shape, -100), "ids": torch.full(slots["weights"].shape, -1)}
        for row in reversed(range(len(batch))):  # the first of a blend is the map's
            canvas, slot = int(batch.canvas[row]), int(batch.slot[row])
            x0, y0, x1, y1 = batch.region[row]
            expected[canvas, y0:y1, x0:x1] = slot
            sample = int(batch.sample[row])
            slots["ids"][canvas, slot], slots["labels"][canvas, slot] = sample, int(labels[sample])
            slots["weights"][canvas, slot] = slots["norms"][canvas, slot] = 1
            slots["shares"][canvas, slot] = float(batch.shares[row])
        assert torch.equal(images[:, 3], expected)
        assert {name: value.dtype for name, value in target.items()} == {
            "labels": torch.int64,
            "ids": torch.int64,
            "weights": torch.float32,
            "norms": torch.float32,
            "shares": torch.float32,
        }
        for name, value in slots.items():
            assert torch.equal(target[name], value.to(target[name].dtype)), name


@pytest.mark.parametrize("channels", [3, 4])
def test_images_are_channels_last(make: Callable[..., MixLoader], channels: int) -> None:
    for images, _ in make(region_map=channels == 4):
        assert images.shape == (7, channels, 64, 64)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_without_a_region_map_the_picture_is_the_same(make: Callable[..., MixLoader]) -> None:
    for (mapped, _), (plain, _) in zip(make(), make(region_map=False), strict=True):
        assert torch.equal(mapped[:, :3], plain)


def test_mean_and_std_normalise(make: Callable[..., MixLoader]) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    shape = (1, 3, 1, 1)
    for (raw, _), (scaled, _) in zip(make(**PLAIN), make(mean=mean, std=std), strict=True):
        expected = (raw[:, :3] / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
        assert torch.allclose(scaled[:, :3], expected, atol=1e-5)
        assert torch.equal(scaled[:, 3], raw[:, 3])


def test_a_transform_sees_the_normalised_picture_alone(make: Callable[..., MixLoader]) -> None:
    seen = []

    def negative(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return -images

    for (turned, _), (images, _) in zip(make(transform=negative), make(), strict=True):
        assert torch.equal(turned[:, :3], -images[:, :3])
        assert torch.equal(turned[:, 3], images[:, 3])
    assert set(seen) == {(7, 3, 64, 64)}


def test_a_failing_transform_fails_the_step_with_its_own_error(make: Callable[..., MixLoader]) -> None:
    def broken(images: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        next(iter(make(transform=broken)))


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (lambda images: None, "NoneType"),
        (lambda images: images.numpy(), "ndarray"),
        (lambda images: images[:, :1], r"\[7, 1, 64, 64\]"),
        (lambda images: images[..., ::2], r"\[7, 3, 64, 32\]"),
        (lambda images: images[0], r"\[3, 64, 64\]"),
    ],
)
def test_a_transform_that_changes_the_shape_is_refused(
    make: Callable[..., MixLoader], result: Callable[[Tensor], Any], got: str
) -> None:
    expected = rf"transform gave {got} for a picture of \[7, 3, 64, 64\]: it must keep the shape"
    with pytest.raises(MixloaderError, match=expected) as caught:
        next(iter(make(transform=result)))
    assert "\n" not in str(caught.value)


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance that batch norm takes from a batch."""
    norm = nn.BatchNorm2d(3, momentum=1.0).train()
    norm(images[:, :3])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def test_a_padded_batch_is_to_batch_norm_its_samples_alone(make: Callable[..., MixLoader], pipeline: str) -> None:
    *_, (images, target) = make(pipeline=pipeline, batch_size=16)
    assert (target["labels"][:, 0] >= 0).tolist() == [True] * 8 + [False] * 8
    for padded, alone in zip(statistics(images), statistics(images[:8]), strict=True):  # every picture twice
        assert torch.allclose(padded, alone, rtol=1e-3, atol=1e-4)


def test_where_copies_do_not_come_out_even_batch_norm_is_still_near(make: Callable[..., MixLoader]) -> None:
    black = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    by_copies, by_black = torch.zeros(2, 3), torch.zeros(2, 3)
    for batch_size in (7, 10, 13, 20, 23):
        *_, (images, target) = make(batch_size=batch_size)
        filled = target["labels"][:, 0] >= 0
        blackened = torch.where(filled[:, None, None, None], images[:, :3], black[:, None, None])
        alone, padded, shifted = (torch.stack(statistics(each)) for each in (images[filled], images, blackened))
        by_copies += (padded - alone).abs() / 5
        by_black += (shifted - alone).abs() / 5
    assert by_copies[0].max() < 0.1  # of a standard deviation
    assert (by_copies < 0.2 * by_black).all()


@dataclass(frozen=True)
class Nobody:
    """A policy by which all sit out."""

    def budget(self, run: Run, epoch: int) -> Budget | None:
        return None

    def allocate(self, run: Run, epoch: int, losses: Losses, rng: np.random.Generator) -> Allocation:
        return Allocation(run.image_size, np.zeros(run.samples, np.float32), np.ones(run.samples, np.float32))


def test_an_epoch_without_samples_has_its_steps_all_the_same(make: Callable[..., MixLoader], pipeline: str) -> None:
    batches = list(make(pipeline=pipeline, policy=Nobody()))
    assert [tuple(images.shape) for images, _ in batches] == [(0, 4, 64, 64)] * 4
    assert all(target["ids"].shape == (0, 4) for _, target in batches)


def test_a_target_has_a_slot_for_every_member_of_the_largest_composite() -> None:
    assert SLOTS == LARGEST_COMPOSITE  # split/ needs only torch, and policies/ no split: each has its own
