"""The small networks: shapes, strides, canvases of any size, plain and split."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mixloader.split import split_model
from mixloader.tools.networks import small_mobilenet, small_resnet, small_vit

Make = Callable[..., tuple[nn.Sequential, nn.Sequential]]

POOLED: list[Make] = [small_resnet, small_mobilenet]
few = settings(deadline=None, max_examples=15)
pooled = st.sampled_from(POOLED)
shapes = st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple)


def halves(size: int, canvases: int = 2) -> Tensor:
    """Canvases of two constituents side by side."""
    images = torch.rand(canvases, 4, size, size)
    images[:, 3] = 1
    images[:, 3, :, : size // 2] = 0
    return images


@few
@given(make=pooled, blocks=shapes, width=st.sampled_from([4, 8]), cells=st.integers(1, 4), classes=st.integers(1, 7))
def test_every_stage_halves_the_side_and_doubles_the_channels(
    make: Make, blocks: tuple[int, ...], width: int, cells: int, classes: int
) -> None:
    features, head = make(classes, width, blocks)
    stride = 2 ** len(blocks)
    drawn = features(torch.rand(2, 3, cells * stride, cells * stride))
    last = width * 2 ** (len(blocks) - 1) * (4 if make is small_mobilenet else 1)
    assert drawn.shape == (2, last, cells, cells)
    assert head(drawn).shape == (2, classes)


@few
@given(make=pooled, size=st.integers(1, 70))
def test_a_canvas_may_have_any_size(make: Make, size: int) -> None:
    features, head = make(5, 8, (0, 1))
    with torch.no_grad():
        logits = head(features.eval()(torch.rand(1, 3, size, size)))
    assert logits.shape == (1, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize("make", POOLED)
def test_more_blocks_make_it_deeper(make: Make) -> None:
    def convolutions(blocks: tuple[int, ...]) -> int:
        return sum(isinstance(module, nn.Conv2d) for module in make(3, 4, blocks)[0].modules())

    assert convolutions((0, 0)) < convolutions((1, 0)) < convolutions((1, 2))


@pytest.mark.parametrize("make", POOLED)
@pytest.mark.parametrize("size", [8, 16, 28])
def test_split_it_scores_every_constituent_and_plain_every_canvas(make: Make, size: int) -> None:
    model = split_model(make(5, 8, (0, 1))).train()
    images = halves(size)
    logits = model(images)
    assert logits.shape[0] == 2
    assert logits.shape[-1] == 5
    assert logits[:, :2].isfinite().all()
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    assert model(images[:, :3]).shape == (2, 5)
    assert model.eval()(images[:, :3]).shape == (2, 5)


@pytest.mark.parametrize("make", POOLED)
def test_split_and_not_it_is_the_same_network(make: Make) -> None:
    torch.manual_seed(0)
    features, head = make(5, 8, (0, 1))
    plain = nn.Sequential(features, head).eval()
    images = torch.rand(2, 3, 16, 16)
    expected = plain(images)
    model = split_model((features, head)).eval()
    assert torch.allclose(model(images), expected, atol=1e-6)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize("make", POOLED)
def test_every_parameter_learns(make: Make) -> None:
    model = split_model(make(5, 8, (1, 1))).train()
    model(halves(16))[:, :2].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("isolate", [False, True])
def test_the_transformer_scores_every_constituent_split(isolate: bool) -> None:
    model = split_model(small_vit(5, 16, 4, width=16, depth=1), isolate=isolate).train()
    assert model(halves(16))[:, :2].shape == (2, 2, 5)
    assert model.eval()(torch.rand(2, 3, 16, 16)).shape == (2, 5)
