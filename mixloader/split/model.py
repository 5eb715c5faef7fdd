"""Conversion of a pool -> head network to one row of logits per constituent, by hooks and in place."""

from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from mixloader.errors import MixloaderError
from mixloader.split.probe import check_head
from mixloader.split.regions import SLOTS, pool_regions

M = TypeVar("M", bound=nn.Module)

# Networks whose forward is: this module, average pooling over the whole map, head. By qualified name, over
# the class's bases, so that torchvision is not imported.
_FAMILIES = {
    "torchvision.models.resnet.ResNet": "layer4",
    "torchvision.models.mobilenetv2.MobileNetV2": "features",
    "torchvision.models.mobilenetv3.MobileNetV3": "features",
    "torchvision.models.efficientnet.EfficientNet": "features",
    "torchvision.models.convnext.ConvNeXt": "features",
    "torchvision.models.regnet.RegNet": "trunk_output",
}
# Compiled code ignores a hook that is added later, and a wrapper's own hooks must run outside ours.
_WRAPPERS = {
    "OptimizedModule": "torch.compile",
    "DistributedDataParallel": "DistributedDataParallel",
    "DataParallel": "DataParallel",
    "FullyShardedDataParallel": "FSDP",
    "FSDPModule": "FSDP",
}
# Head modules that work on [N, D]. Exact types: torchvision's LayerNorm2d, on maps, is a LayerNorm too.
_ON_VECTORS = (nn.Linear, nn.LayerNorm, nn.BatchNorm1d, nn.Dropout, nn.Flatten)


class Split:
    """What the hooks of one model share.

    The model and its features module hold the same object, as an attribute, so a deepcopy of the model (EMA)
    gets one of its own, shared in the same way, and a wrapper around either module cannot come between them.
    """

    def __init__(self, features: str) -> None:
        """Features: the path of the module whose output is pooled per region, for messages."""
        self.features = features
        self.region_map: Tensor | None = None  # [C, S, S], only while a split forward runs


class SplitNetwork(nn.Module):
    """head(features(x)), with the average pooling between them where the head works on vectors.

    `features` gives [N, D, h, w]. A head whose first leaf module works on vectors (Linear, LayerNorm,
    BatchNorm1d, Dropout, Flatten) is given their mean, [N, D]; any other gets the map and pools it.
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        """Both modules become children under their own names."""
        super().__init__()
        self.features = features
        self.head = head
        first_leaf = next(module for module in head.modules() if not any(module.children()))
        self.pools = type(first_leaf) in _ON_VECTORS

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, S, S] to logits [N, classes]."""
        maps = self.features(images)
        return self.head(maps.mean((2, 3)) if self.pools else maps)  # type: ignore[no-any-return]


@overload
def split_model(model: M, *, features: str | None = None) -> M: ...
@overload
def split_model(model: tuple[nn.Module, nn.Module]) -> SplitNetwork: ...
def split_model(model: nn.Module | tuple[nn.Module, nn.Module], *, features: str | None = None) -> nn.Module:
    """Make a network give one row of logits per constituent of a composite.

    In training, given images [C, 4, S, S] whose last channel is the region map, the model pools its last
    feature map per region and runs its own head on every slot: logits [C, SLOTS, classes]. In eval it drops
    the fourth channel, and given three channels it is unchanged: logits [C, classes]. The same object is
    returned, with no new parameters and the same state_dict keys. Exact for networks that end in average
    pooling and a head; nothing may come between.

    The head sees C * SLOTS rows, empty slots included: their logits are never scored, but a BatchNorm inside
    the head counts them. The images must be the first positional argument of the model's call. Two
    evaluations of a 64-pixel image check here that the model average-pools. Activation
    checkpointing may wrap the children of the features module, not that module itself.

    Args:
        model: a torchvision ResNet (also ResNeXt, Wide ResNet), MobileNetV2, MobileNetV3, EfficientNet,
            ConvNeXt or RegNet; any other model, with `features`; or a pair (features, head), of which a new
            `SplitNetwork` is made.
        features: the path, as in `named_modules()`, of the module whose output [N, D, h, w] is pooled.

    Raises:
        MixloaderError: the model is not known, does not average-pool, is already split, or is already
            compiled or wrapped for distributed training.
        TypeError: `model` is neither a module nor a pair of modules.

    Warns:
        MixloaderWarning: the model cannot take the 64-pixel image, so the check is left out.
    """
    if isinstance(model, tuple):
        if features is not None:
            raise MixloaderError(f"features={features!r} was given with a pair: a pair (features, head) needs no name")
        network = SplitNetwork(*_modules(model, 2))
        _install(network, "features")
        return network
    (model,) = _modules((model,), 1)
    _install(model, features if features is not None else _known_features(model))
    return model


def _modules(given: tuple[Any, ...], count: int) -> tuple[nn.Module, ...]:
    if len(given) != count or not all(isinstance(module, nn.Module) for module in given):
        names = ", ".join(type(module).__name__ for module in given)
        raise TypeError(f"split_model takes a torch.nn.Module or a pair (features, head), not ({names})")
    return given


def _known_features(model: nn.Module) -> str:
    _refuse_wrapped(model)
    for base in type(model).__mro__:
        name = _FAMILIES.get(f"{base.__module__}.{base.__qualname__}")
        if name is not None:
            return name
    raise MixloaderError(
        f"split_model does not know {type(model).__qualname__}: if it average-pools its last feature map "
        'before the head, pass features="path.of.the.module" that makes the map, or the pair (features, head)'
    )


def _refuse_wrapped(module: nn.Module) -> None:
    by = next((_WRAPPERS[base.__name__] for base in type(module).__mro__ if base.__name__ in _WRAPPERS), None)
    if by is None and module._compiled_call_impl is not None:
        by = "Module.compile"
    if by is not None:
        raise MixloaderError(
            f"the model is already wrapped by {by}, so it would ignore the split: call split_model first"
        )


def _install(model: nn.Module, path: str) -> None:
    module = model
    _refuse_wrapped(model)
    for name in path.split("."):
        children = dict(module.named_children())
        if name not in children:
            raise MixloaderError(
                f"features={path!r}: {type(module).__qualname__} has no module {name!r}, only "
                f"{', '.join(children) or 'none'}: pass the path of the module whose output is average-pooled"
            )
        module = children[name]
        _refuse_wrapped(module)
    if "_split" in model.__dict__ or "_split" in module.__dict__:
        raise MixloaderError(f"{type(model).__qualname__} is already split: call split_model once")
    check_head(model, module, path)
    module._split = model._split = Split(path)  # type: ignore[assignment]
    model.register_forward_pre_hook(_take_map)
    module.register_forward_hook(_pool)
    model.register_forward_hook(_unfold)


# The hooks are functions of the module alone, with no closure: a copy of the model must use its own state.


def _take_map(model: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    split = _split_of(model)
    split.region_map = None  # a forward that raised may have left one
    images = args[0] if args else None
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != 4:
        return None
    if model.training:
        split.region_map = images[:, 3]
    return (images[:, :3], *args[1:])


def _pool(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
    split = _split_of(module)
    if split.region_map is None:
        return None
    if not isinstance(output, Tensor) or output.dim() != 4:
        raise MixloaderError(
            f"features={split.features!r} gave {_shape(output)}, not a map [N, D, h, w]: "
            "name the module whose output is average-pooled"
        )
    pooled = pool_regions(output, split.region_map)
    return pooled.view(-1, pooled.shape[2], 1, 1)


def _unfold(model: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
    split = _split_of(model)
    region_map, split.region_map = split.region_map, None
    if region_map is None:
        return None
    canvases = region_map.shape[0]
    if not isinstance(output, Tensor) or output.shape[:1] != torch.Size([canvases * SLOTS]):
        raise MixloaderError(
            f"the split model gave {_shape(output)} for {canvases} canvases, not {canvases * SLOTS} rows of "
            f"logits: pass as features= the module whose output is average-pooled, not {split.features!r}"
        )
    return output.reshape(canvases, SLOTS, *output.shape[1:])


def _split_of(module: nn.Module) -> Split:
    return module._split  # type: ignore[return-value]


def _shape(output: Any) -> str:
    return f"shape {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
