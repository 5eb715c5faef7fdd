"""Importing torchvision where it is installed beside a torch of another build."""

from __future__ import annotations

import importlib
from types import ModuleType

from mixloader.errors import MixloaderError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[object] = []  # torch forgets a library's operators when the library object goes


def import_torchvision() -> ModuleType:
    """The torchvision module.

    Next to a torch of another build (CPU-only torch, CUDA torchvision) its compiled operators do not load,
    and its import fails because it describes two of them. Declaring these two lets everything written in
    Python work: data sets, models, transforms.

    Raises:
        MixloaderError: torchvision is not installed, or cannot be imported even so.
    """
    try:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _declare_operators()
            return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        raise MixloaderError(f"{error}: install it with `pip install mixloader[vision]`") from None
    except (ImportError, RuntimeError) as error:
        raise MixloaderError(
            f"torchvision cannot be imported ({error}): install the one that belongs to your torch"
        ) from None


def _declare_operators() -> None:
    from torch.library import Library

    if not _declared:
        library = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _declared.append(library)
