"""With `Whole`, training through MixLoader is training through a plain DataLoader."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import write_idx
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mixloader import Augment, MixLoader, Plan, ShardSet, split_model
from mixloader.tools.networks import small_resnet
from mixloader.tools.sharding.sources import open_source
from mixloader.tools.sharding.writer import ShardOptions, write_shards
from mixloader.tools.training import accuracy

CLASSES, SIDE, EPOCHS, BATCH = 4, 28, 8, 16
MEAN, STD = (0.3,) * 3, (0.4,) * 3


def noisy_stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stripes whose period is the class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    period = np.array([3.0, 5.0, 8.0, 14.0])[labels][:, None, None]
    phase = rng.random((count, 1, 1)) + np.arange(SIDE) / period
    images = 128 + 50 * np.sin(2 * np.pi * phase) + rng.normal(0, 40, (count, SIDE, SIDE))
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stripes")
    write_idx(folder, *noisy_stripes(330, 0), prefix="train")
    write_idx(folder, *noisy_stripes(200, 1), prefix="t10k")
    for split in ("train", "test"):
        write_shards(open_source(str(folder), split=split), folder / split, options=ShardOptions(workers=1))
    return folder


class Pictures(Dataset[tuple[Tensor, int]]):
    """What a user would write: decode with Pillow, normalise with torch."""

    def __init__(self, shards: ShardSet, order: list[int], flips: list[bool]) -> None:
        self.shards, self.order, self.flips = shards, order, flips

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        sample = self.shards[self.order[i]]
        pixels = np.asarray(Image.open(io.BytesIO(sample.data)).convert("RGB"))
        picture = torch.from_numpy(pixels[:, ::-1].copy() if self.flips[i] else pixels.copy()).permute(2, 0, 1) / 255
        return (picture - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None], sample.label


def fit(model: nn.Module, epochs: Iterable[Iterable[tuple[Tensor, object]]]) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    criterion, losses = nn.CrossEntropyLoss(), []
    model.train()
    for epoch in epochs:
        for images, target in epoch:
            loss = criterion(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def epochs_of(loader: MixLoader, plans: list[Plan]) -> Iterator[MixLoader]:
    """Every epoch of a loader, and its plan for later."""
    for _ in range(EPOCHS):
        yield loader
        plans.append(loader.plan)


def test_whole_trains_the_same_network_as_a_plain_loader_on_the_same_order(stripes: Path) -> None:
    train, test = ShardSet(stripes / "train"), ShardSet(stripes / "test")
    common = {"stride": 4, "mean": MEAN, "std": STD, "threads": 1}
    loader = MixLoader(
        train, BATCH, SIDE, epochs=EPOCHS, augment=Augment((1, 1), (1, 1)), drop_last=True, seed=3, **common
    )
    test_loader = MixLoader(test, 50, SIDE, augment=None, shuffle=False, **common)

    torch.manual_seed(0)
    mixed = split_model(small_resnet(CLASSES, width=8))
    plans: list[Plan] = []
    mixed_losses = fit(mixed, epochs_of(loader, plans))

    torch.manual_seed(0)
    plain = split_model(small_resnet(CLASSES, width=8))
    plain_losses = fit(
        plain,
        (DataLoader(Pictures(train, plan.sample.tolist(), plan.flip.tolist()), BATCH) for plan in plans),
    )

    assert len(mixed_losses) == len(plain_losses) == EPOCHS * len(loader)
    # Rounding differs with the memory layout and grows from step to step, so only the first ones agree closely.
    np.testing.assert_allclose(mixed_losses[:16], plain_losses[:16], rtol=1e-3)
    assert np.mean(mixed_losses) == pytest.approx(np.mean(plain_losses), abs=0.03)
    assert accuracy(mixed, test_loader) == pytest.approx(accuracy(plain, test_loader), abs=2)
    assert accuracy(plain, test_loader) > 60  # of 25 by chance: there was something to learn
