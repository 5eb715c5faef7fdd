"""Setups: a data set, a network and how it is trained; the same for every policy, tuned for plain training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mixloader.errors import MixloaderError
from mixloader.policies import MixTrain, Resolution
from mixloader.split import split_model
from mixloader.tools.datasets import DATASETS, DataSet
from mixloader.tools.datasets.registry import fashion_mnist
from mixloader.tools.networks import small_mobilenet, small_resnet, small_vit
from mixloader.tools.training import Recipe


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        build: number of classes, and whether attention keeps to regions -> the split network.
        stride: its total stride, or patch size, pixels.
        attends: it is a vision transformer: it takes canvases of one size only, and can keep attention to regions.
    """

    build: Callable[[int, bool], nn.Module]
    stride: int
    attends: bool = False


@dataclass(frozen=True)
class Setup:
    """What all runs of a benchmark have in common.

    Attributes:
        data: the data set.
        image_size: side of a whole canvas, pixels.
        network: what is trained.
        recipe: how: plain training's epochs, batch size and learning rate.
        mixtrain: MixTrain as it was chosen for the data, on the validation split.
    """

    data: DataSet
    image_size: int
    network: Network
    recipe: Recipe
    mixtrain: MixTrain


def _pooled(make: Callable[..., tuple[nn.Module, nn.Module]], width: int, blocks: tuple[int, ...]) -> Network:
    return Network(lambda classes, isolate: split_model(make(classes, width, blocks)), stride=2 ** len(blocks))


def _vit(image_size: int, patch: int) -> Network:
    def build(classes: int, isolate: bool) -> nn.Module:
        return split_model(small_vit(classes, image_size, patch), isolate=isolate)

    return Network(build, patch, attends=True)


_NETWORKS = {
    ("fashion-mnist", "resnet"): _pooled(small_resnet, 16, (1, 1)),
    ("fashion-mnist", "mobilenet"): _pooled(small_mobilenet, 16, (0, 1)),
    ("fashion-mnist", "vit"): _vit(28, 4),
    ("wesnoth", "resnet"): _pooled(small_resnet, 8, (0, 1, 1)),
    ("wesnoth", "mobilenet"): _pooled(small_mobilenet, 8, (0, 0, 1)),
    ("wesnoth", "vit"): _vit(64, 8),
}
_DATA = {
    "fashion-mnist": (fashion_mnist(samples=4000), 28, MixTrain(selection=0.75, resolution=Resolution(side=0.7))),
    "wesnoth": (DATASETS["wesnoth"], 64, MixTrain()),
}
_BATCH_SIZE = 64


def open_setup(data: str, network: str, epochs: int) -> Setup:
    """The setup of a data set and a network by name, plain training taking `epochs` epochs.

    Args:
        data: `fashion-mnist` (4,000 training images) or `wesnoth`.
        network: `resnet`, `mobilenet` or `vit`, all small, or the name of one in torchvision.models that
            `split_model` knows, which takes images of 64 pixels.
        epochs: of plain training.

    Raises:
        MixloaderError: there is no such data set or network.
    """
    if data not in _DATA:
        raise MixloaderError(f"--data {data}: there are {', '.join(_DATA)}")
    dataset, size, ours = _DATA[data]
    if network == "vit":
        recipe = Recipe(epochs, _BATCH_SIZE, 2e-3, "adamw", decay=0.05)
        one_size = replace(ours, selection=1.0, resolution=Resolution(side=1))
        return Setup(dataset, size, _NETWORKS[data, network], recipe, one_size)
    recipe = Recipe(epochs, _BATCH_SIZE)
    if (data, network) in _NETWORKS:
        return Setup(dataset, size, _NETWORKS[data, network], recipe, ours)
    return Setup(dataset, 64, _torchvision(network), recipe, ours)


def _torchvision(name: str) -> Network:
    from mixloader.tools.vision import import_torchvision

    make: Any = getattr(import_torchvision().models, name, None)
    if not callable(make) or isinstance(make, type):
        raise MixloaderError(f"--network {name}: it is resnet, mobilenet, vit or a network of torchvision.models")

    def build(classes: int, isolate: bool) -> nn.Module:
        model: nn.Module = split_model(make(num_classes=classes))
        return model

    return Network(build, stride=32)
