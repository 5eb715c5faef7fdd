"""The mask lets every token attend to what the rules say, and to something."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mixloader.split import SLOTS
from mixloader.split.attention import MaskedAttention, attention_mask, patch_slots


def attends(tokens: list[tuple[str, int]], row: int, column: int, isolate: bool) -> bool:
    """The rules, one pair of tokens at a time; a token is its kind and its slot."""
    (kind, slot), (other_kind, other) = tokens[row], tokens[column]
    if kind == "prefix" and other_kind == "patch" and ("patch", slot) not in tokens:
        return True
    return slot == other or (kind == other_kind == "patch" and not isolate)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(-1, SLOTS - 1), min_size=6, max_size=6), min_size=1, max_size=3),
    st.integers(0, 3),
    st.booleans(),
)
def test_the_mask_is_that_of_the_rules(canvases: list[list[int]], prefix: int, isolate: bool) -> None:
    mask = attention_mask(torch.tensor(canvases), prefix, isolate=isolate)
    size = SLOTS * prefix + 6
    assert mask.shape == (len(canvases), 1, size, size)
    assert mask.any(3).all()  # a row of nothing would be NaN
    for patches, found in zip(canvases, mask[:, 0].tolist(), strict=True):
        tokens = [("prefix", slot) for slot in range(SLOTS) for _ in range(prefix)] + [("patch", s) for s in patches]
        for row in range(size):
            assert found[row] == [attends(tokens, row, column, isolate) for column in range(size)]


def test_a_patch_belongs_to_the_region_that_covers_most_of_it() -> None:
    region_map = torch.full((1, 16, 16), -1.0)
    region_map[:, :, :11] = 2  # 3 of the second column's 8 pixels
    region_map[:, :8, 11:] = 1
    assert patch_slots(region_map, 2, 2).tolist() == [[2, 1, 2, 2]]
    assert patch_slots(-torch.ones(1, 16, 16), 2, 2).tolist() == [[-1] * 4]


@pytest.mark.parametrize("bias", [True, False])
def test_masked_attention_is_torchs_with_a_mask_a_head(bias: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=True, bias=bias)
    tokens = torch.randn(3, 7, 16)
    mask = (torch.rand(3, 7, 7) > 0.5) | torch.eye(7, dtype=torch.bool)
    expected, _ = attention(tokens, tokens, tokens, attn_mask=~mask.repeat_interleave(4, 0), need_weights=False)
    whole, weights = attention(tokens, tokens, tokens)
    attention.__class__ = MaskedAttention
    assert list(attention.state_dict()) == list(nn.MultiheadAttention(16, 4, bias=bias).state_dict())
    found, nothing = attention(tokens, tokens, tokens, attn_mask=mask.unsqueeze(1), need_weights=False)
    torch.testing.assert_close(found, expected)
    assert nothing is None
    same: tuple[Tensor, Tensor] = attention(tokens, tokens, tokens)
    torch.testing.assert_close(same, (whole, weights), rtol=0, atol=0)
