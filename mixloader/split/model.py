"""Conversion of a network to one row of logits per constituent, by hooks and in place."""

from typing import Any, TypeVar, overload

from torch import Tensor, nn

from mixloader.errors import MixloaderError
from mixloader.split.families import Pooled, Transformer, family_of
from mixloader.split.hooks import refuse_split, refuse_wrapped
from mixloader.split.pooled import split_pooled
from mixloader.split.transformer import split_transformer

M = TypeVar("M", bound=nn.Module)

# Head modules that work on [N, D]. Exact types: torchvision's LayerNorm2d, on maps, is a LayerNorm too.
_ON_VECTORS = (nn.Linear, nn.LayerNorm, nn.BatchNorm1d, nn.Dropout, nn.Flatten)


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
def split_model(model: M, *, features: str | None = None, isolate: bool = False) -> M: ...
@overload
def split_model(model: tuple[nn.Module, nn.Module]) -> SplitNetwork: ...
def split_model(
    model: nn.Module | tuple[nn.Module, nn.Module], *, features: str | None = None, isolate: bool = False
) -> nn.Module:
    """Make a network give one row of logits per constituent of a composite.

    In training, given images [C, 4, S, S] whose last channel is the region map, the model runs its own head
    once per slot: logits [C, SLOTS, classes]. In eval it drops the fourth channel, and given three channels
    it is unchanged: logits [C, classes]. The same object is returned, with no new parameters and the same
    state_dict keys. What the head sees of a slot:

    - Networks that average-pool their last feature map: the mean over the slot's region. Exact; nothing may
      come between the pooling and the head. Two evaluations of an image check here that the model
      average-pools. Activation checkpointing may wrap the children of the features module, not that module
      itself.
    - Vision transformers: the slot's own class token (and registers), which all start as the model's, or the
      mean over its patches. A patch belongs to the region that covers most of it. A class token attends to
      the patches of its region only, a patch to its own region's class token and to all patches. With
      `isolate` it attends to the patches of its own region only, so a constituent's logits are those of its
      tokens, at their places on the canvas, run alone. torchvision's blocks cannot be checkpointed; timm
      itself leaves its checkpointing out when there is a mask, as here in training.

    A whole canvas has the logits of the plain model, in both. The head sees C * SLOTS rows, empty slots
    included: their logits are never scored, but a BatchNorm inside the head counts them. The images must be
    the first positional argument of the model's call.

    Args:
        model: a torchvision ResNet (also ResNeXt, Wide ResNet), MobileNetV2, MobileNetV3, EfficientNet,
            ConvNeXt, RegNet, VisionTransformer or SwinTransformer (also V2); a timm VisionTransformer (also
            DeiT) with global_pool 'token' or 'avg', SwinTransformer or SwinTransformerV2; any other model,
            with `features`; or a pair (features, head), of which a new `SplitNetwork` is made.
        features: the path, as in `named_modules()`, of the module whose output [N, D, h, w] is pooled.
        isolate: block-diagonal attention, for a VisionTransformer.

    Raises:
        MixloaderError: the model is not known, cannot be split as it was made, does not average-pool, is
            already split, or is already compiled or wrapped for distributed training; or it cannot isolate.
        TypeError: `model` is neither a module nor a pair of modules.

    Warns:
        MixloaderWarning: the model cannot take the image, so the check is left out.
    """
    if isinstance(model, tuple):
        if features is not None:
            raise MixloaderError(f"features={features!r} was given with a pair: a pair (features, head) needs no name")
        network = SplitNetwork(*_modules(model, 2))
        _refuse_isolation(network, isolate)
        split_pooled(network, "features")
        return network
    (model,) = _modules((model,), 1)
    refuse_wrapped(model)
    refuse_split(model)
    family = Pooled(features) if features is not None else _known(model)
    if isinstance(family, Transformer):
        split_transformer(model, family, isolate=isolate)
    else:
        _refuse_isolation(model, isolate)
        split_pooled(model, family.features, channels_last=family.channels_last)
    return model


def _modules(given: tuple[Any, ...], count: int) -> tuple[nn.Module, ...]:
    if len(given) != count or not all(isinstance(module, nn.Module) for module in given):
        names = ", ".join(type(module).__name__ for module in given)
        raise TypeError(f"split_model takes a torch.nn.Module or a pair (features, head), not ({names})")
    return given


def _known(model: nn.Module) -> Pooled | Transformer:
    family = family_of(model)
    if family is None:
        raise MixloaderError(
            f"split_model does not know {type(model).__qualname__}: if it average-pools its last feature map "
            '[N, D, h, w] before the head, pass features="path.of.the.module" that makes the map, or the pair '
            "(features, head); of transformers it splits torchvision's and timm's VisionTransformer and "
            "SwinTransformer"
        )
    return family


def _refuse_isolation(model: nn.Module, isolate: bool) -> None:
    if isolate:
        raise MixloaderError(
            f"isolate=True: {type(model).__qualname__} is split at its pooling, and what comes before it (windows, "
            "convolutions) sees across the borders of regions: leave isolate out; only a VisionTransformer isolates"
        )
