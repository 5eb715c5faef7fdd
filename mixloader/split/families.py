"""The networks that `split_model` knows: by qualified name, over a class's bases, so that no library is imported."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from mixloader.errors import MixloaderError


@dataclass(frozen=True)
class Pooled:
    """A network whose forward is: a module that makes the map, average pooling over all of it, head."""

    features: str  # the module's path
    channels_last: bool = False  # the map is [N, h, w, D], not [N, D, h, w]


@dataclass(frozen=True)
class Transformer:
    """The parts of a vision transformer between which its tokens pass: [N, prefix + h * w, D].

    The h * w patches come row by row, after the `prefix` tokens that are no patch (class, registers).
    """

    embedded: nn.Module  # gives the tokens to the blocks
    masked: tuple[nn.Module, ...]  # take the attention's mask in their call, as attn_mask=
    normed: nn.Module  # gives the tokens to the head
    prefix: int
    patch: int  # pixels
    pools: bool  # the head averages the patches; else it reads prefix tokens only


def family_of(model: nn.Module) -> Pooled | Transformer | None:
    """How to split a model; None for one that is not known. Raises MixloaderError for what cannot be split."""
    for base in type(model).__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if name in _POOLED:
            return _POOLED[name]
        if name in _TRANSFORMERS:
            return _TRANSFORMERS[name](model)
    return None


def _torchvision_vit(model: Any) -> Transformer:
    attentions = tuple(block.self_attention for block in model.encoder.layers)
    for attention in attentions:
        if type(attention) is not nn.MultiheadAttention:
            raise _refusal(model, f"its attention is a {type(attention).__qualname__}, not nn.MultiheadAttention")
    return Transformer(model.encoder.dropout, attentions, model.encoder.ln, 1, model.patch_size, pools=False)


def _timm_vit(model: Any) -> Transformer:
    if model.global_pool not in ("token", "avg"):
        raise _refusal(model, f"its global_pool is {model.global_pool!r}: make it with 'token' or 'avg'")
    if getattr(model, "pool_include_prefix", False):
        raise _refusal(model, "it averages the class token with the patches: make it with pool_include_prefix=False")
    if type(model.patch_drop) is not nn.Identity:
        raise _refusal(model, "it drops patches: make it with patch_drop_rate=0")
    if "attn_mask" not in inspect.signature(model.forward).parameters:
        raise _refusal(model, "it takes no attn_mask=: install a newer timm (1.0.31 does)")
    return Transformer(
        model.norm_pre,
        (model,),
        model.norm,
        model.num_prefix_tokens,
        model.patch_embed.feat_ratio(),
        pools=model.global_pool == "avg",
    )


def _refusal(model: nn.Module, reason: str) -> MixloaderError:
    return MixloaderError(f"{type(model).__qualname__} cannot be split: {reason}")


_POOLED = {
    "torchvision.models.resnet.ResNet": Pooled("layer4"),
    "torchvision.models.mobilenetv2.MobileNetV2": Pooled("features"),
    "torchvision.models.mobilenetv3.MobileNetV3": Pooled("features"),
    "torchvision.models.efficientnet.EfficientNet": Pooled("features"),
    "torchvision.models.convnext.ConvNeXt": Pooled("features"),
    "torchvision.models.regnet.RegNet": Pooled("trunk_output"),
    "torchvision.models.swin_transformer.SwinTransformer": Pooled("permute"),
    "timm.models.swin_transformer.SwinTransformer": Pooled("norm", channels_last=True),
    "timm.models.swin_transformer_v2.SwinTransformerV2": Pooled("norm", channels_last=True),
}
_TRANSFORMERS: dict[str, Callable[[Any], Transformer]] = {
    "torchvision.models.vision_transformer.VisionTransformer": _torchvision_vit,
    "timm.models.vision_transformer.VisionTransformer": _timm_vit,
}
