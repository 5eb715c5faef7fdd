"""The data sets by name. Mean and deviation were taken once, over all pixels of the training shards, decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mixloader.errors import MixloaderError
from mixloader.planning import Augment
from mixloader.tools.datasets.dataset import DataSet

if TYPE_CHECKING:
    from mixloader.tools.sharding.sources import Source

_VALIDATION = 10_000  # images of Fashion-MNIST


def fashion_mnist(samples: int = 5000) -> DataSet:
    """Fashion-MNIST with few training images: the first `samples` of its 60,000, the last 10,000 for validation."""

    def sources(data: Path) -> dict[str, Source]:
        from mixloader.tools.datasets.fashion_mnist import FASHION_CLASSES, fashion_mnist_folder
        from mixloader.tools.sharding.idx import IdxSource
        from mixloader.tools.sharding.subset import SubsetSource

        folder = fashion_mnist_folder(data)
        images = IdxSource(folder, "train", FASHION_CLASSES)
        rest = len(images) - _VALIDATION
        if not 1 <= samples <= rest:
            raise MixloaderError(f"samples={samples} of Fashion-MNIST is out of range: it must be 1 to {rest}")
        return {
            f"train-{samples}": SubsetSource(images, range(samples)),
            "validation": SubsetSource(images, range(rest, len(images))),
            "test": IdxSource(folder, "test", FASHION_CLASSES),
        }

    return DataSet(
        name="fashion-mnist",
        title="Fashion-MNIST",
        image_size=28,
        mean=(0.286, 0.286, 0.286),
        std=(0.354, 0.354, 0.354),
        augment=Augment(scale=(1, 1), ratio=(1, 1)),  # flips only: the pictures are centred and small
        sources=sources,
    )


def wesnoth() -> DataSet:
    """The units of the game Battle for Wesnoth, a class for each race; the splits share no unit."""

    def sources(data: Path) -> dict[str, Source]:
        from mixloader.tools.datasets.splits import PARTS
        from mixloader.tools.datasets.wesnoth import wesnoth_folder
        from mixloader.tools.sharding.folder import FolderSource

        folder = wesnoth_folder(data)
        return {split: FolderSource(folder / split) for split in PARTS}

    return DataSet(
        name="wesnoth",
        title="Wesnoth units",
        image_size=72,
        mean=(0.478, 0.462, 0.460),
        std=(0.136, 0.143, 0.135),
        augment=Augment(scale=(0.6, 1.0), ratio=(0.9, 1.1)),
        sources=sources,
    )


DATASETS = {"fashion-mnist": fashion_mnist(), "wesnoth": wesnoth()}
