"""Who attends to whom on a canvas. The rules are this project's own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixloader.split.regions import SLOTS, region_weights


def patch_slots(region_map: Tensor, height: int, width: int) -> Tensor:
    """The slot that covers most of every patch, -1 where none covers any of it.

    region_map: [C, S, S], as `region_weights` takes it. Returns [C, height * width] int64.
    """
    covered, slot = region_weights(region_map, height, width).flatten(2).max(1)
    return torch.where(covered > 0, slot, -1)


def attention_mask(patches: Tensor, prefix: int, *, isolate: bool) -> Tensor:
    """Which token (row) attends to which (column), True where it does.

    The tokens are `prefix` of every slot, slot by slot, and then the patches.

    - A prefix token attends to those of its slot and to the slot's patches. In a slot without a patch it
      attends to all patches, as `pool_regions` pools: so the two samples of a blend, which share one region,
      get the same answer, and an empty slot, which is never scored and to which no other token attends,
      stays finite.
    - A patch attends to the prefix tokens of its own slot, never to four copies, and to all patches; to its
      slot's alone if `isolate`.

    A whole canvas's patches, and its slot's prefix tokens, so attend as in the plain model.

    patches: [C, N] int64, the slot of every patch, as `patch_slots` gives it. Returns [C, 1, L, L] bool with
    L = SLOTS * prefix + N: one mask for all heads.
    """
    canvases, count = patches.shape
    slots = torch.arange(SLOTS, device=patches.device).repeat_interleave(prefix)
    owned = slots.view(1, -1, 1) == patches.unsqueeze(1)  # [C, SLOTS * prefix, N]
    among_prefix = (slots.unsqueeze(1) == slots).expand(canvases, -1, -1)
    among_patches = patches.unsqueeze(2) == patches.unsqueeze(1) if isolate else owned.new_ones(1, count, count)
    of_prefix = torch.cat([among_prefix, owned | ~owned.any(2, keepdim=True)], 2)
    of_patches = torch.cat([owned.transpose(1, 2), among_patches.expand(canvases, -1, -1)], 2)
    return torch.cat([of_prefix, of_patches], 1).unsqueeze(1)


class MaskedAttention(nn.MultiheadAttention):
    """Self-attention that also takes one mask for all heads, attn_mask [N, 1, L, L] bool, True where it attends.

    `nn.MultiheadAttention` wants a copy of the mask for every head, and makes floats of them in every block:
    61 million for 128 canvases in a ViT-B at 224 pixels. With any other mask, or none, it is that class. A module is
    made one by its `__class__`, so its parameters, hooks and name stay what they were; it must be batch-first
    and have no `bias_k`, `add_zero_attn`, `kdim` or `vdim`.
    """

    def forward(self, query: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Query [N, L, D], which is also key and value, to ([N, L, D], None)."""
        mask = kwargs.get("attn_mask")
        if mask is None or mask.dim() != 4:
            return super().forward(query, *args, **kwargs)
        projected = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.view(*query.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind()
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None
