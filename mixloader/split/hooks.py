"""What every split model has: a place where its hooks meet, the hook that takes the map and the one that ends it."""

from typing import Any

import torch
from torch import Tensor, nn

from mixloader.errors import MixloaderError
from mixloader.split.regions import SLOTS

# Compiled code ignores a hook that is added later, and a wrapper's own hooks must run outside ours.
_WRAPPERS = {
    "OptimizedModule": "torch.compile",
    "DistributedDataParallel": "DistributedDataParallel",
    "DataParallel": "DataParallel",
    "FullyShardedDataParallel": "FSDP",
    "FSDPModule": "FSDP",
}


class Split:
    """What the hooks of one model share.

    The model and its hooked modules hold the same object, as an attribute, so a deepcopy of the model (EMA)
    gets one of its own, shared in the same way, and a wrapper around any of them cannot come between them.
    """

    def __init__(self, advice: str) -> None:
        """Advice: what to do when the model does not give a row of logits per slot, for that message."""
        self.advice = advice
        self.region_map: Tensor | None = None  # [C, S, S], while a split forward runs

    def set_map(self, region_map: Tensor | None) -> None:
        """Take the map of a forward, None where it is not split or over, and forget all of the last one."""
        self.region_map = region_map


def install(model: nn.Module, split: Split, *modules: nn.Module) -> None:
    """Let the model and these modules of it hold `split`, and register the hooks on the model itself.

    The hooks are functions of the module alone, with no closure: a copy of the model must use its own state.
    """
    for module in (model, *modules):
        module._split = split  # type: ignore[assignment]  # a module's attributes are typed as tensors and modules
    model.register_forward_pre_hook(_take_map)
    model.register_forward_hook(_unfold)


def split_of(module: nn.Module) -> Any:
    """The `Split` that `install` gave to a module."""
    return module._split


def refuse_split(model: nn.Module, *modules: nn.Module) -> None:
    """Raise MixloaderError if the model, or one of these modules of it, is split already."""
    if any("_split" in module.__dict__ for module in (model, *modules)):
        raise MixloaderError(f"{type(model).__qualname__} is already split: call split_model once")


def refuse_wrapped(module: nn.Module) -> None:
    """Raise MixloaderError for a module that is compiled, or wrapped for distributed training."""
    by = next((_WRAPPERS[base.__name__] for base in type(module).__mro__ if base.__name__ in _WRAPPERS), None)
    if by is None and module._compiled_call_impl is not None:
        by = "Module.compile"
    if by is not None:
        raise MixloaderError(
            f"the model is already wrapped by {by}, so it would ignore the split: call split_model first"
        )


def shape_of(output: Any) -> str:
    """What a module gave, for messages."""
    return f"shape {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _take_map(model: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    split: Split = split_of(model)
    split.set_map(None)  # a forward that raised may have left one
    images = args[0] if args else None
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != 4:
        return None
    if model.training:
        split.set_map(images[:, 3])
    return (images[:, :3], *args[1:])


def _unfold(model: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
    split: Split = split_of(model)
    region_map = split.region_map
    split.set_map(None)
    if region_map is None:
        return None
    canvases = region_map.shape[0]
    if not isinstance(output, Tensor) or output.shape[:1] != torch.Size([canvases * SLOTS]):
        raise MixloaderError(
            f"the split model gave {shape_of(output)} for {canvases} canvases, not {canvases * SLOTS} rows of "
            f"logits: {split.advice}"
        )
    return output.reshape(canvases, SLOTS, *output.shape[1:])
