"""A check, when a model is split, that its head sees the feature map through average pooling only."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mixloader.errors import MixloaderError, MixloaderWarning

_PIXELS = 64  # two cells of a network with a total stride of 32; for one that takes any size
_TOLERANCE = 0.03  # of the largest logit: above bfloat16's rounding, far below what another pooling changes


class _Substitute:
    """A forward hook that puts a fixed map in the place of what the module gave."""

    def __init__(self, averaged: bool, channels_last: bool) -> None:
        self.averaged = averaged
        self.channels_last = channels_last
        self.reached = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        self.reached = True
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise MixloaderError("it does not give a map [N, D, h, w]")
        generator = torch.Generator().manual_seed(0)  # leaves the user's random state alone
        maps = 10 * torch.randn(1, output.shape[3 if self.channels_last else 1], 2, 2, generator=generator)
        maps = maps.mean((2, 3), keepdim=True) if self.averaged else maps
        return (maps.movedim(1, 3) if self.channels_last else maps).to(output)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def check_head(model: nn.Module, features: nn.Module, path: str, *, channels_last: bool = False) -> None:
    """Check that the model answers the same for a random feature map and for the map's mean.

    The model is left as it was. On the meta device there is nothing to compute, so nothing is checked.

    Args:
        model: any module that takes images [N, 3, S, S] and gives logits.
        features: the module inside it that makes the map [N, D, h, w].
        path: where that is, for messages.
        channels_last: the map is [N, h, w, D].

    Raises:
        MixloaderError: the answers differ, the head cannot take a map of one cell, or `features` is not run
            or gives no map.

    Warns:
        MixloaderWarning: the model fails before it reaches `features`.
    """
    parameter = next(model.parameters(), torch.empty(0))
    if parameter.is_meta:
        return
    height, width = _image_size(model)
    images = torch.zeros(1, 3, height, width, dtype=parameter.dtype, device=parameter.device)
    answers = []
    for averaged in (False, True):
        substitute = _Substitute(averaged, channels_last)
        handle = features.register_forward_hook(substitute)
        try:
            with _evaluating(model):
                answers.append(model(images))
        except Exception as error:  # whatever the user's model raises
            reason = " ".join(str(error).split())
            if substitute.reached:
                raise _refusal(model, path, reason) from error
            warnings.warn(
                f"{type(model).__qualname__} could not be run on an image of {height} x {width} pixels to check it "
                f"({reason}): make sure that it average-pools the output of {path!r} and gives the head nothing else",
                MixloaderWarning,
                stacklevel=4,
            )
            return
        finally:
            handle.remove()
        if not substitute.reached:
            raise _refusal(model, path, "the model does not run it")
    whole, mean = answers
    if not isinstance(whole, Tensor):
        raise _refusal(model, path, f"the model gives a {type(whole).__name__}, not a tensor of logits")
    if whole.shape != mean.shape or (whole - mean).abs().max() > _TOLERANCE * whole.abs().max():
        raise _refusal(model, path, "the head sees the map otherwise than through average pooling")


def _image_size(model: nn.Module) -> tuple[int, int]:
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)  # timm's, of those that take one size
    return size if isinstance(size, tuple) else (_PIXELS, _PIXELS)


def _refusal(model: nn.Module, path: str, reason: str) -> MixloaderError:
    return MixloaderError(
        f"{type(model).__qualname__} cannot be split at {path!r}: {reason}: pass as features= the module "
        "whose output [N, D, h, w] is average-pooled before the head, or the pair (features, head)"
    )
