"""mixloader: several training images on one canvas, and from their losses, who shares."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixloader.controller import Controller
    from mixloader.errors import MixloaderError, MixloaderWarning, ShardError
    from mixloader.ledger import LossLedger
    from mixloader.loader import MixLoader
    from mixloader.plan import Plan
    from mixloader.planning import Augment
    from mixloader.policies import Allocation
    from mixloader.shards import ShardSet
    from mixloader.split import SplitLoss, SplitTarget, split_model

__all__ = [
    "Allocation",
    "Augment",
    "Controller",
    "LossLedger",
    "MixLoader",
    "MixloaderError",
    "MixloaderWarning",
    "Plan",
    "ShardError",
    "ShardSet",
    "SplitLoss",
    "SplitTarget",
    "split_model",
]

_HOMES = {
    "controller": ("Controller",),
    "errors": ("MixloaderError", "MixloaderWarning", "ShardError"),
    "ledger": ("LossLedger",),
    "loader": ("MixLoader",),
    "plan": ("Plan",),
    "planning": ("Augment",),
    "policies": ("Allocation",),
    "shards": ("ShardSet",),
    "split": ("SplitLoss", "SplitTarget", "split_model"),
}


def __getattr__(name: str) -> Any:
    """Import a module, or a name's module, when it is first asked for: the command line need not wait for torch."""
    if name in _HOMES:
        return import_module(f"{__name__}.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is to ask for."""
    return sorted({*globals(), *__all__, *_HOMES})
