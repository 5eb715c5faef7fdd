"""Every known family splits exactly; what cannot be split is refused at once."""

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mixloader.errors import MixloaderError, MixloaderWarning
from mixloader.split import SLOTS, split_model
from mixloader.tools.vision import import_torchvision

models = import_torchvision().models


def convnext_stages() -> list[object]:
    widths = [16, 24, 32, 48, None]
    config = models.convnext.CNBlockConfig
    return [config(width, wider, 1) for width, wider in itertools.pairwise(widths)]


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: models.resnet18(num_classes=10),
    "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=10, dropout=0.0, width_mult=0.35),
    "mobilenet_v3": lambda: models.mobilenet_v3_small(num_classes=10, dropout=0.0),
    "efficientnet": lambda: models.efficientnet_b0(num_classes=10, dropout=0.0, stochastic_depth_prob=0.0),
    "convnext": lambda: models.ConvNeXt(convnext_stages(), num_classes=10),
    "regnet": lambda: models.regnet_x_400mf(num_classes=10),
}


class Small(nn.Module):
    """A small network of a kind that split_model does not know."""

    def __init__(self, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = pool or nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.body(self.stem(images))).flatten(1))


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def halves(canvases: int = 4, size: int = 64) -> Tensor:
    """Random composites of two samples each, side by side."""
    images = torch.randn(canvases, 4, size, size)
    images[:, 3] = 0
    images[:, 3, :, size // 2 :] = 1
    return images.contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_canvas_has_the_plain_models_logits(family: str) -> None:
    model = FAMILIES[family]().train()
    plain = copy.deepcopy(model)
    keys = list(model.state_dict())
    assert split_model(model) is model
    assert list(model.state_dict()) == keys
    assert all(module.training for module in model.modules())
    images = halves()
    images[:, 3] = 0
    expected = plain(images[:, :3])
    logits = model(images)
    assert logits.shape == (4, SLOTS, 10)
    torch.testing.assert_close(logits[:, 0], expected, rtol=1e-3, atol=1e-4)
    # Both have now moved their batch statistics equally.
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    torch.testing.assert_close(model(images[:, :3]), plain(images[:, :3]))
    model.eval(), plain.eval()
    expected = plain(images[:, :3])
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(model(images[:, :3]), expected, rtol=0, atol=0)


def test_the_constituents_logits_differ_and_train_the_model() -> None:
    model = split_model(models.resnet18(num_classes=10))
    logits = model(halves())
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    logits[:, :2].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_named_module_and_a_pair_split_alike() -> None:
    model = Small()
    pair = split_model(copy.deepcopy((nn.Sequential(model.stem, model.body), model.head)))
    pools = split_model(
        copy.deepcopy((nn.Sequential(model.stem, model.body), nn.Sequential(model.pool, nn.Flatten(), model.head)))
    )
    split_model(model, features="body")
    assert set(dict(pair.named_children())) == {"features", "head"}
    images = halves()
    for given in (images, images[:, :3]):
        expected = model(given)
        torch.testing.assert_close(pair(given), expected)
        torch.testing.assert_close(pools(given), expected)


def test_a_deepcopy_trains_on_its_own() -> None:
    model = split_model(Small(), features="body")
    twin = copy.deepcopy(model)
    images = halves()
    expected = model(images)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        twin(images).square().sum().backward()
        optimizer.step()
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(model(images), expected)
    assert not torch.allclose(twin(images), expected)


def test_a_pickled_model_is_split_still() -> None:
    model = split_model(models.resnet18(num_classes=10))
    images = halves()
    again = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(again(images), model(images))


def test_a_forward_that_raised_leaves_nothing_behind() -> None:
    model = split_model(Small(), features="body")
    images = halves()
    broken = model.body.register_forward_pre_hook(lambda module, args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images)
    broken.remove()
    assert model(images[:, :3]).shape == (4, 10)


def test_a_wrapped_features_module_still_splits() -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    model = split_model(Small(), features="body")
    images = halves()
    expected = model(images)
    model.body = Wrapper(model.body)
    torch.testing.assert_close(model(images), expected)


def test_canvases_of_any_size() -> None:
    model = split_model(models.resnet18(num_classes=10))
    for size in (64, 96, 72):
        assert model(halves(2, size)).shape == (2, SLOTS, 10)


@pytest.mark.parametrize(
    ("make", "features", "says"),
    [
        (lambda: on_meta(models.vgg11), None, "does not know VGG.*features="),
        (lambda: on_meta(models.vgg11), None, "of transformers .* VisionTransformer and SwinTransformer"),
        (lambda: on_meta(models.maxvit_t), None, "does not know MaxVit"),
        (lambda: models.DenseNet(8, (1, 1, 1, 1), 16), "features", "otherwise than through average pooling"),
        (Small, None, "does not know Small"),
        (Small, "trunk", r"no module 'trunk', only stem, body, pool, head"),
        (Small, "head", "does not give a map"),
        (Small, "stem", "otherwise than through average pooling"),
        (lambda: Small(nn.AdaptiveMaxPool2d(1)), "body", "otherwise than through average pooling"),
        (lambda: nn.Sequential(Small(), nn.Identity()), "0.pool.x", "has no module 'x', only none"),
    ],
)
def test_what_cannot_be_split_is_refused(make: Callable[[], nn.Module], features: str | None, says: str) -> None:
    model = make()
    with pytest.raises(MixloaderError, match=says) as raised:
        split_model(model, features=features)
    assert "\n" not in str(raised.value)
    assert not model._forward_hooks


def test_a_replaced_pool_is_refused() -> None:
    model = models.resnet18(num_classes=10)
    model.avgpool = nn.AdaptiveMaxPool2d(1)
    with pytest.raises(MixloaderError, match="average pooling"):
        split_model(model)


def test_a_pairs_head_with_another_pooling_is_refused() -> None:
    body, head = nn.Conv2d(3, 8, 4, 4), nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    with pytest.raises(MixloaderError, match="average pooling"):
        split_model((body, head))
    with pytest.raises(MixloaderError, match="needs no name"):
        split_model((body, nn.Linear(8, 10)), features="0")  # type: ignore[call-overload]
    for wrong in ((body,), (body, len), "resnet50"):
        with pytest.raises(TypeError, match=r"takes a torch.nn.Module or a pair"):
            split_model(wrong)  # type: ignore[call-overload]


def test_split_once_and_before_wrapping() -> None:
    model = split_model(Small(), features="body")
    with pytest.raises(MixloaderError, match="already split"):
        split_model(model, features="body")
    with pytest.raises(MixloaderError, match=r"already wrapped by torch\.compile.*split_model first"):
        split_model(torch.compile(models.resnet18(num_classes=10)))
    with pytest.raises(MixloaderError, match=r"already wrapped by DataParallel"):
        split_model(nn.DataParallel(Small()), features="module.body")
    compiled = Small()
    compiled.compile()
    with pytest.raises(MixloaderError, match=r"already wrapped by Module\.compile"):
        split_model(compiled, features="body")
    inside = Small()
    inside.body = torch.compile(inside.body)
    with pytest.raises(MixloaderError, match=r"already wrapped by torch\.compile"):
        split_model(inside, features="body._orig_mod")


def test_a_model_that_cannot_be_checked_is_split_with_a_warning() -> None:
    class Only96(Small):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[-1] != 96:
                raise ValueError("96 pixels only")
            return super().forward(images)

    with pytest.warns(MixloaderWarning, match=r"96 pixels only.*make sure"):
        model = split_model(Only96(), features="body")
    assert model(halves(2, 96)).shape == (2, SLOTS, 10)


def test_wrong_modules_that_could_not_be_checked_are_found_in_the_first_forward() -> None:
    with torch.device("meta"):
        unchecked = split_model(Small(), features="head"), split_model(Small(), features="body")
    flat, twice = (model.to_empty(device="cpu") for model in unchecked)
    with pytest.raises(MixloaderError, match=r"features='head' gave shape \[4, 10\]"):
        flat(halves())
    twice.body.register_forward_hook(lambda module, args, output: output[:3])
    with pytest.raises(MixloaderError, match=r"gave shape \[3, 10\] for 4 canvases, not 16 rows"):
        twice(halves())


def test_splitting_leaves_the_random_state_and_the_statistics_alone() -> None:
    model = models.resnet18(num_classes=10)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    split_model(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
