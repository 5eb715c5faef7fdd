"""Small transformers of torchvision and timm, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from mixloader.tools.vision import import_torchvision

SIZE, PATCH, CLASSES = 64, 8, 10  # pixels, pixels, logits

models = import_torchvision().models  # first: timm imports torchvision
timm_vit = importlib.import_module("timm.models.vision_transformer").VisionTransformer
timm_deit = importlib.import_module("timm.models.deit").VisionTransformerDistilled
timm_swin = importlib.import_module("timm.models.swin_transformer").SwinTransformer
timm_swin_v2 = importlib.import_module("timm.models.swin_transformer_v2").SwinTransformerV2


def of_torchvision(depth: int = 2, **options: Any) -> nn.Module:
    model = models.VisionTransformer(SIZE, PATCH, depth, 4, 32, 64, num_classes=CLASSES, **options)
    nn.init.normal_(model.heads[-1].weight)  # torchvision's own start is 0: all logits alike
    return model


def of_timm(kind: Callable[..., nn.Module] = timm_vit, depth: int = 2, **options: Any) -> nn.Module:
    return kind(img_size=SIZE, patch_size=PATCH, embed_dim=32, depth=depth, num_heads=4, num_classes=CLASSES, **options)


VITS: dict[str, Callable[..., nn.Module]] = {
    "torchvision": of_torchvision,
    "timm": of_timm,
    "timm averaging": partial(of_timm, global_pool="avg"),
    "timm averaging after the norm": partial(of_timm, global_pool="avg", fc_norm=False),
    "timm with registers": partial(of_timm, reg_tokens=2, no_embed_class=True),
    "timm with registers only": partial(of_timm, global_pool="avg", class_token=False, reg_tokens=4),
    "timm of patches only": partial(of_timm, global_pool="avg", class_token=False),
    "timm of any size": partial(of_timm, dynamic_img_size=True),
    "DeiT, distilled": partial(of_timm, timm_deit),
}


def swin_of_torchvision(**options: Any) -> nn.Module:
    return models.SwinTransformer(
        [4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=CLASSES, stochastic_depth_prob=0.0, **options
    )


def swin_of_timm(kind: Callable[..., nn.Module] = timm_swin) -> nn.Module:
    shape = {"embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4}
    return kind(img_size=SIZE, num_classes=CLASSES, drop_path_rate=0.0, **shape)


SWINS: dict[str, Callable[..., nn.Module]] = {
    "swin": swin_of_torchvision,
    "swin_v2": partial(
        swin_of_torchvision,
        block=models.swin_transformer.SwinTransformerBlockV2,
        downsample_layer=models.swin_transformer.PatchMergingV2,
    ),
    "timm_swin": swin_of_timm,
    "timm_swin_v2": partial(swin_of_timm, timm_swin_v2),
}
