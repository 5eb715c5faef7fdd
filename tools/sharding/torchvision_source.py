"""A data set of torchvision as a source."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixloader.errors import MixloaderError
from mixloader.tools.sharding.keys import path_keys
from mixloader.tools.sharding.sources import SourceImage, UnreadableImageError, read_file
from mixloader.tools.vision import import_torchvision


class TorchvisionSource:
    """A torchvision data set for classification, in its own order.

    Where it keeps image files, their bytes are taken as they are; otherwise its decoded images.

    Args:
        name: of the class in torchvision.datasets.
        root: where it keeps, and downloads, its files.
        split: handed to it as `train=` or `split=`, whichever it has.
        classes: the class names; None for its own, or the numbers.

    Raises:
        MixloaderError: there is no such data set, it could not be made, or it has no labels that are integers.
    """

    def __init__(self, name: str, root: Path, split: str, classes: tuple[str, ...] | None) -> None:
        """Makes the data set, which may download it."""
        self._name = f"{name}[{split}]"
        self._dataset = _make(name, root, split)
        self._files = _files(self._dataset)
        self.classes = classes or _classes(self._name, self._dataset, self._files)
        if not len(self._dataset):
            raise MixloaderError(f"{self._name} is empty: download it again")
        self._keys = path_keys(_relative(self._files)) if self._files else None
        listing = (name, split, len(self._dataset), self.classes, self._keys)
        self.fingerprint = hashlib.sha256(repr(listing).encode()).hexdigest()

    def __len__(self) -> int:
        """How many images the split has."""
        return len(self._dataset)

    def __getitem__(self, i: int) -> SourceImage:
        """Image number `i`.

        Raises:
            UnreadableImageError: the data set could not read it.
            MixloaderError: it is no pair of an image and an integer label among the classes.
        """
        name = f"{self._name}[{i}]"
        try:
            image, label = self._bytes(i) if self._files else self._dataset[i]
        except (OSError, SyntaxError) as error:  # SyntaxError: what Pillow says of damaged files
            raise UnreadableImageError(name, str(error)) from None
        label = _integer(name, label)
        if not 0 <= label < len(self.classes):
            raise MixloaderError(
                f"{name} has the label {label}, outside the {len(self.classes)} classes: name all with --classes"
            )
        return SourceImage(self._keys[i] if self._keys else f"{i:08d}", label, name, image)

    def _bytes(self, i: int) -> tuple[bytes, Any]:
        path, label = self._files[i]
        return read_file(path), label


def _make(name: str, root: Path, split: str) -> Any:
    datasets = import_torchvision().datasets
    known = list(datasets.__all__)
    if name not in known:
        folded = {other.lower(): other for other in known}
        close = difflib.get_close_matches(name.lower(), folded, n=3)
        hint = " or ".join(folded[other] for other in close) or "a folder of class folders"
        raise MixloaderError(f"source {name!r} is no folder and no torchvision data set: did you mean {hint}?")
    factory = getattr(datasets, name)
    parameters = _parameters(factory)
    arguments: dict[str, Any] = {"root": str(root)}
    if "train" in parameters:
        arguments["train"] = {"train": True, "test": False}.get(split)
        if arguments["train"] is None:
            raise MixloaderError(f"split {split!r} is not one of {name}: it has train and test")
    elif "split" in parameters:
        arguments["split"] = split
    if "download" in parameters:
        arguments["download"] = True
    try:
        return factory(**arguments)
    except Exception as error:  # a constructor downloads, unpacks and parses: whatever it says is the reason
        raise MixloaderError(
            f"torchvision's {name} with {arguments} failed ({' '.join(str(error).split())}): correct --root "
            "and --split, or name a folder"
        ) from None


def _parameters(factory: type) -> set[str]:
    """The names a constructor takes; one that passes **kwargs on takes those of its base classes too."""
    own = inspect.signature(factory).parameters
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in own.values()):
        return set(own)
    return {name for cls in inspect.getmro(factory)[:-1] for name in inspect.signature(cls).parameters}


def _files(dataset: Any) -> list[tuple[Path, Any]]:
    """The image files and labels of a data set that keeps files; empty for one that keeps arrays.

    Decoding them to write a lossless copy would make shards many times larger.
    """
    pairs: Any = getattr(dataset, "samples", getattr(dataset, "_samples", None))
    if pairs is None and hasattr(dataset, "_image_files") and hasattr(dataset, "_labels"):
        pairs = list(zip(dataset._image_files, dataset._labels, strict=True))
    try:
        files = [(Path(path), label) for path, label in pairs or ()]
    except (TypeError, ValueError):
        return []
    return files if len(files) == len(dataset) and all(path.is_file() for path, _ in files[:1]) else []


def _relative(files: list[tuple[Path, Any]]) -> list[str]:
    parents = [set(path.parents) for path, _ in files[:1] + files[-1:]]
    base = max(set.intersection(*parents), key=lambda parent: len(parent.parts))
    return [path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path) for path, _ in files]


def _classes(name: str, dataset: Any, files: list[tuple[Path, Any]]) -> tuple[str, ...]:
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, Sequence) and classes:
        # ImageNet's are tuples of synonyms, the first of which is the usual one.
        return tuple(str(item[0] if isinstance(item, tuple) else item) for item in classes)
    labels: Any = [label for _, label in files]
    for attribute in ("targets", "labels", "_labels"):
        labels = labels if len(labels) else getattr(dataset, attribute, ())
    if not len(labels):
        raise MixloaderError(f"torchvision's {name} names no classes: name them with --classes a,b,c")
    return tuple(map(str, range(max(_integer(name, label) for label in labels) + 1)))


def _integer(name: str, label: Any) -> int:
    try:
        return int(label)
    except (TypeError, ValueError):
        raise MixloaderError(
            f"{name} has the label {str(label)[:40]!r}, no integer: this is no data set for classification"
        ) from None
