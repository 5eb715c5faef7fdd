"""Finding Fashion-MNIST: 70,000 grey images of 28 x 28 pixels, in ten classes, 6,000 + 1,000 of each."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mixloader.errors import MixloaderError
from mixloader.tools.datasets.debian import unpack_package
from mixloader.tools.vision import import_torchvision

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""The class names; the IDX files hold their numbers only."""

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_PACKAGE = "dataset-fashion-mnist"
_SOCKET_SECONDS = 10.0


def fashion_mnist_folder(data: Path) -> Path:
    """A folder that holds the four original IDX files, each plain or compressed with gzip.

    Looks in `data`, `data/FashionMNIST/raw` and `data/fashion-mnist`; then asks torchvision to download
    them, then Debian's package `dataset-fashion-mnist`.

    Args:
        data: the folder to look in, and to put what was fetched.

    Raises:
        MixloaderError: all of these failed; it gives the reason of each.
    """
    places = (data, data / "FashionMNIST" / "raw", data / "fashion-mnist")
    for place in places:
        if _is_complete(place):
            return place
    reasons = [f"a folder: its four IDX files are not in {', '.join(map(str, places))}"]
    routes: dict[str, Callable[[Path], Path]] = {
        "torchvision's download": _from_torchvision,
        f"Debian's package {_PACKAGE}": _from_debian,
    }
    for name, route in routes.items():
        try:
            return route(data)
        except Exception as error:  # a download ends in a dozen types; whatever it says is the reason
            reasons.append(f"{name}: {' '.join(str(error).split()) or type(error).__name__}")
    raise MixloaderError(
        f"Fashion-MNIST is not to be had from {'; '.join(reasons)}: put the four files into {places[-1]}"
    )


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in _FILES)


def _from_torchvision(data: Path) -> Path:
    datasets = import_torchvision().datasets
    with _socket_timeout(_SOCKET_SECONDS):
        datasets.FashionMNIST(str(data), download=True)
    return _checked(data / "FashionMNIST" / "raw")


def _from_debian(data: Path) -> Path:
    with tempfile.TemporaryDirectory() as temporary:
        unpack_package(_PACKAGE, Path(temporary))
        folder = data / "fashion-mnist"
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(Path(temporary).rglob("*-ubyte*")):
            part = folder / f"{path.name}.part"
            shutil.copyfile(path, part)
            part.replace(folder / path.name)  # under its own name only when it is whole: names are what is looked for
    return _checked(folder)


def _checked(folder: Path) -> Path:
    if not _is_complete(folder):
        raise MixloaderError(f"{folder} lacks some of {', '.join(_FILES)}")
    return folder


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """For the code inside, whose downloads otherwise wait for as long as the network does."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
