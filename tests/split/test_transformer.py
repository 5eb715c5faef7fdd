"""A constituent's logits are those of its own tokens; what is not split stays the plain model."""

import copy
import pickle
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from helpers.composites import Box, paste, tilings
from helpers.transformers import (
    CLASSES,
    PATCH,
    SIZE,
    SWINS,
    VITS,
    of_timm,
    of_torchvision,
    swin_of_timm,
    swin_of_torchvision,
    timm_deit,
    timm_vit,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mixloader.errors import MixloaderError
from mixloader.split import SLOTS, split_model

GRID = SIZE // PATCH
ISOLATE = pytest.mark.parametrize("isolate", [False, True])
VIT = pytest.mark.parametrize("name", VITS)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@cache
def twins(name: str, isolate: bool, **options: int) -> tuple[nn.Module, nn.Module]:
    """A split model in training, and the plain one with the same parameters."""
    torch.manual_seed(0)
    plain = VITS[name](**options).train()
    return split_model(copy.deepcopy(plain), isolate=isolate), plain


def draw(canvases: list[list[Box]], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [
            paste([torch.randn(3, y1 - y0, x1 - x0, generator=generator) for x0, y0, x1, y1 in boxes], boxes, SIZE)
            for boxes in canvases
        ]
    ).contiguous(memory_format=torch.channels_last)


def run_alone(plain: nn.Module, image: Tensor, box: Box) -> Tensor:
    """The plain model's logits [classes] of a box's tokens, with all the others left out before the first block."""
    x0, y0, x1, y1 = (pixels // PATCH for pixels in box)
    chosen = torch.arange(GRID**2).view(GRID, GRID)[y0:y1, x0:x1].flatten()

    def leave_out(module: nn.Module, args: object, tokens: Tensor) -> Tensor:
        prefix = tokens.shape[1] - GRID**2
        return torch.cat([tokens[:, :prefix], tokens[:, prefix + chosen]], 1)

    embedded = plain.norm_pre if hasattr(plain, "norm_pre") else plain.encoder.dropout
    handle = embedded.register_forward_hook(leave_out)
    try:
        return plain(image[None, :3])[0]
    finally:
        handle.remove()


@torch.no_grad()
def check_alone(network: nn.Module, plain: nn.Module, canvases: list[list[Box]], seed: int) -> None:
    images = draw(canvases, seed)
    logits = network(images)
    assert logits.shape == (len(canvases), SLOTS, CLASSES)
    assert logits.isfinite().all()
    for image, row, boxes in zip(images, logits, canvases, strict=True):
        alone = torch.stack([run_alone(plain, image, box) for box in boxes])
        torch.testing.assert_close(row[: len(boxes)], alone, rtol=1e-4, atol=1e-4)


canvases_of_boxes = st.lists(tilings(SIZE, PATCH), min_size=1, max_size=3)


@VIT
@settings(max_examples=12, deadline=None)
@given(canvases=canvases_of_boxes, seed=st.integers(0, 2**31))
def test_isolated_constituents_answer_as_their_tokens_do_alone(name: str, canvases: list[list[Box]], seed: int) -> None:
    check_alone(*twins(name, True), canvases, seed)


@settings(max_examples=12, deadline=None)
@given(canvases=canvases_of_boxes, seed=st.integers(0, 2**31))
def test_a_class_token_reads_its_own_region_only(canvases: list[list[Box]], seed: int) -> None:
    # In one block the class tokens cannot have heard of another region through the patches.
    check_alone(*twins("timm", False, depth=1), canvases, seed)


def test_without_isolation_the_patches_see_the_whole_canvas() -> None:
    network, _ = twins("timm", False)
    images = draw([[(0, 0, SIZE // 2, SIZE), (SIZE // 2, 0, SIZE, SIZE)]], 0)
    other = images.clone()
    other[:, :3, :, SIZE // 2 :] += 1
    assert (network(other)[:, 0] - network(images)[:, 0]).abs().max() > 1e-4


@ISOLATE
@VIT
def test_a_whole_canvas_and_what_is_not_split_have_the_plain_models_logits(name: str, isolate: bool) -> None:
    network, plain = copy.deepcopy(twins(name, isolate))
    assert list(network.state_dict()) == list(plain.state_dict())
    images = draw([[(0, 0, SIZE, SIZE)]] * 2, 0)
    expected = plain(images[:, :3])
    torch.testing.assert_close(network(images)[:, 0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(images[:, :3]), expected, rtol=0, atol=0)
    network.eval(), plain.eval()
    for mode in (torch.enable_grad, torch.no_grad):  # without gradients torch's attention takes another way
        with mode():
            expected = plain(images[:, :3])
            torch.testing.assert_close(network(images), expected, rtol=0, atol=0)
            torch.testing.assert_close(network(images[:, :3]), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", SWINS)
def test_a_swin_pools_its_regions(name: str) -> None:
    plain = SWINS[name]().train()
    network = split_model(copy.deepcopy(plain))
    assert list(network.state_dict()) == list(plain.state_dict())
    images = draw([[(0, 0, SIZE, SIZE)], [(0, 0, SIZE // 2, SIZE), (SIZE // 2, 0, SIZE, SIZE)]], 0)
    logits, expected = network(images), plain(images[:, :3])
    torch.testing.assert_close(logits[0, 0], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[1, :2].mean(0), expected[1], rtol=1e-4, atol=1e-5)  # the head is linear
    assert not torch.allclose(logits[1, 0], logits[1, 1], rtol=1e-3)
    network.eval(), plain.eval()
    torch.testing.assert_close(network(images), plain(images[:, :3]), rtol=0, atol=0)


@ISOLATE
@VIT
def test_empty_slots_and_canvases_are_finite_and_touch_no_one(name: str, isolate: bool) -> None:
    network = copy.deepcopy(twins(name, isolate)[0])
    images = draw([[(0, 0, SIZE, PATCH)], [(0, 0, SIZE, SIZE)], []], 0)  # most of a canvas empty, whole, empty
    logits = network(images)
    assert logits.isfinite().all()
    torch.testing.assert_close(network(images[:1]), logits[:1])
    logits[:, 0].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@ISOLATE
@pytest.mark.parametrize("name", ["torchvision", "timm", "timm averaging"])
def test_a_blend_answers_the_same_in_both_slots(name: str, isolate: bool) -> None:
    logits = twins(name, isolate)[0](draw([[(0, 0, SIZE, SIZE)]], 0))
    torch.testing.assert_close(logits[:, 1], logits[:, 0])


@ISOLATE
@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_copies_are_split_and_train_on_their_own(name: str, isolate: bool) -> None:
    network = copy.deepcopy(twins(name, isolate)[0])
    images = draw([[(0, 0, SIZE, PATCH), (0, PATCH, SIZE, SIZE)]], 0)
    expected = network(images)
    again = pickle.loads(pickle.dumps(network))
    torch.testing.assert_close(again(images), expected)
    twin = copy.deepcopy(network)
    twin(images).square().sum().backward()
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(network(images), expected)
    assert not torch.allclose(twin(images), expected)


def test_canvases_of_any_size_where_the_model_takes_them() -> None:
    network, _ = twins("timm of any size", True)
    images = draw([[(0, 0, SIZE, SIZE // 2), (0, SIZE // 2, SIZE, SIZE)]], 0)
    for size in (32, 48, SIZE):
        assert network(images[:, :, :size, :size]).shape == (1, SLOTS, CLASSES)


@pytest.mark.parametrize("name", ["torchvision", "timm averaging"])
def test_bfloat16_logits_are_near_the_float32_ones(name: str) -> None:
    network, _ = twins(name, True)
    images = draw([[(0, 0, SIZE, SIZE // 2), (0, SIZE // 2, SIZE, SIZE)]], 0)
    expected = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.02 * float(expected.detach().abs().max()))


def test_timms_checkpointing_changes_nothing() -> None:
    network = copy.deepcopy(twins("timm", True)[0])
    twin = copy.deepcopy(network)
    twin.set_grad_checkpointing(True)
    images = draw([[(0, 0, SIZE, SIZE // 2), (0, SIZE // 2, SIZE, SIZE)]], 0)
    for model in (network, twin):
        model(images).square().sum().backward()
    for parameter, same in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(same.grad, parameter.grad)


def old_timm() -> nn.Module:
    class Old(timm_vit):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    return of_timm(Old)


def other_attention() -> nn.Module:
    model = of_torchvision()
    model.encoder.layers[1].self_attention = nn.Identity()
    return model


def compiled_inside() -> nn.Module:
    model = of_timm()
    model.blocks[1] = torch.compile(model.blocks[1])
    return model


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (partial(of_timm, global_pool="avgmax"), r"VisionTransformer cannot be split: its global_pool is 'avgmax'"),
        (partial(of_timm, global_pool="map", class_token=False), "global_pool is 'map'"),
        (partial(of_timm, global_pool="avg", pool_include_prefix=True), "pool_include_prefix=False"),
        (partial(of_timm, patch_drop_rate=0.5), "drops patches"),
        (old_timm, "Old cannot be split: it takes no attn_mask"),
        (other_attention, r"its attention is a Identity, not nn\.MultiheadAttention"),
        (compiled_inside, r"already wrapped by torch\.compile"),
        (lambda: split_model(of_torchvision()), "VisionTransformer is already split"),
    ],
)
def test_what_cannot_be_split_is_refused(make: Callable[[], nn.Module], says: str) -> None:
    model = make()
    hooks = len(model._forward_hooks)
    with pytest.raises(MixloaderError, match=says) as raised:
        split_model(model)
    assert "\n" not in str(raised.value)
    assert len(model._forward_hooks) == hooks


@pytest.mark.parametrize("make", [swin_of_timm, swin_of_torchvision])
def test_only_a_vision_transformer_isolates(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(MixloaderError, match="isolate=True: SwinTransformer is split at its pooling"):
        split_model(make(), isolate=True)
    with pytest.raises(MixloaderError, match="isolate=True: SplitNetwork"):
        split_model((nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 10)), isolate=True)  # type: ignore[call-overload]


def test_a_transformer_that_answers_otherwise_in_training_is_found_in_the_first_forward() -> None:
    network = split_model(of_timm(timm_deit))
    network.set_distilled_training(True)
    with pytest.raises(MixloaderError, match=r"gave a tuple for 1 canvases, not 4 rows.*set_distilled_training"):
        network(draw([[(0, 0, SIZE, SIZE)]], 0))


def test_a_canvas_that_is_no_multiple_of_the_patch_is_refused() -> None:
    network = split_model(of_timm(dynamic_img_size=True, dynamic_img_pad=True))
    with pytest.raises(MixloaderError, match=r"81 patches of a canvas of 68 pixels, not 8 x 8 of 8 pixels"):
        network(torch.zeros(1, 4, 68, 68))
