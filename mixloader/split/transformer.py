"""The split of a vision transformer: prefix tokens for every slot, and a mask in the attention."""

from typing import Any

import torch
from torch import Tensor, nn

from mixloader.errors import MixloaderError
from mixloader.split.attention import MaskedAttention, attention_mask, patch_slots
from mixloader.split.families import Transformer
from mixloader.split.hooks import Split, install, refuse_wrapped, split_of
from mixloader.split.regions import SLOTS, pool_regions


class TokenSplit(Split):
    """The state of such a model; see `mixloader.split.families.Transformer` for its numbers."""

    def __init__(self, parts: Transformer, isolate: bool) -> None:
        """Isolate: patches attend to those of their own region only."""
        super().__init__(
            "it must answer in training as in eval, one tensor of logits (timm: set_distilled_training(False))"
        )
        self.prefix, self.patch, self.pools = parts.prefix, parts.patch, parts.pools
        self.isolate = isolate
        self._mask: Tensor | None = None

    def set_map(self, region_map: Tensor | None) -> None:
        """Take the map; its mask is not made yet."""
        super().set_map(region_map)
        self._mask = None

    def grid(self, region_map: Tensor) -> tuple[int, int]:
        """The rows and columns of patches."""
        return region_map.shape[1] // self.patch, region_map.shape[2] // self.patch

    def mask(self, region_map: Tensor) -> Tensor:
        """The attention's mask [C, 1, L, L]: made once a forward, for all blocks."""
        if self._mask is None:
            patches = patch_slots(region_map, *self.grid(region_map))
            self._mask = attention_mask(patches, self.prefix, isolate=self.isolate)
        return self._mask


def split_transformer(model: nn.Module, parts: Transformer, *, isolate: bool) -> None:
    """Give every slot prefix tokens of its own, mask the attention, and run the head on every slot.

    Raises MixloaderError as `mixloader.split.split_model` says.
    """
    for module in model.modules():
        refuse_wrapped(module)
    install(model, TokenSplit(parts, isolate), parts.embedded, *parts.masked, parts.normed)
    for module in parts.masked:
        if isinstance(module, nn.MultiheadAttention):
            module.__class__ = MaskedAttention
        module.register_forward_pre_hook(_give_mask, with_kwargs=True)  # on the model itself: after install's
    parts.embedded.register_forward_hook(_repeat_prefix)
    parts.normed.register_forward_hook(_gather_slots)


def _give_mask(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    split: TokenSplit = split_of(module)
    if split.region_map is None:
        return None
    return args, {**kwargs, "attn_mask": split.mask(split.region_map)}


def _repeat_prefix(module: nn.Module, args: tuple[Any, ...], tokens: Tensor) -> Tensor | None:
    """[C, prefix + N, D] to [C, SLOTS * prefix + N, D]."""
    split: TokenSplit = split_of(module)
    if split.region_map is None:
        return None
    height, width = split.grid(split.region_map)
    if tokens.shape[1] != split.prefix + height * width:
        raise MixloaderError(
            f"the model makes {tokens.shape[1] - split.prefix} patches of a canvas of {split.region_map.shape[1]} "
            f"pixels, not {height} x {width} of {split.patch} pixels: the canvas must be a multiple of the patch"
        )
    prefix, patches = tokens[:, : split.prefix], tokens[:, split.prefix :]
    return torch.cat([prefix.repeat(1, SLOTS, 1), patches], 1)


def _gather_slots(module: nn.Module, args: tuple[Any, ...], tokens: Tensor) -> Tensor | None:
    """[C, SLOTS * prefix + N, D] to the tokens of a slot a row, [C * SLOTS, prefix (+ 1), D].

    The one more is the mean of the slot's patches: a head that averages the patches finds them averaged.
    """
    split: TokenSplit = split_of(module)
    if split.region_map is None:
        return None
    canvases, _, width = tokens.shape
    prefix, patches = tokens[:, : SLOTS * split.prefix], tokens[:, SLOTS * split.prefix :]
    rows = prefix.reshape(canvases * SLOTS, split.prefix, width)
    if not split.pools:
        return rows
    maps = patches.transpose(1, 2).reshape(canvases, width, *split.grid(split.region_map))
    pooled = pool_regions(maps, split.region_map)  # [C, SLOTS, D]
    return torch.cat([rows, pooled.flatten(0, 1).unsqueeze(1)], 1)
