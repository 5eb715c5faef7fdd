"""Small networks for small images: what the demo and the benchmark of methods train, one a family."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _convolution(
    channels_in: int, channels_out: int, stride: int = 1, *, kernel: int = 3, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions and a shortcut around them; [C, width, H, W] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        return torch.relu(x + self.body(x))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project, as in MobileNetV2; a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, expand: int = 4) -> None:
        super().__init__()
        inner = expand * channels_in
        self.body = nn.Sequential(
            _convolution(channels_in, inner, kernel=1),
            _convolution(inner, inner, stride, groups=inner),
            nn.Conv2d(inner, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        out: Tensor = self.body(x)
        return x + out if self.shortcut else out


def _head(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def small_resnet(
    classes: int, width: int = 32, blocks: tuple[int, ...] = (1, 1)
) -> tuple[nn.Sequential, nn.Sequential]:
    """Features [C, 3, S, S] -> [C, D, S / 2^n, S / 2^n], and the head that pools them into `classes` logits.

    Every one of the n stages halves the side; the first has `width` channels, each further one twice as many as the
    one before. The total stride is 2^n.

    Args:
        classes: number of logits.
        width: channels of the first stage.
        blocks: residual blocks of each stage, after the convolution that halves the side.
    """
    layers: list[nn.Module] = []
    before = 3
    for stage, count in enumerate(blocks):
        after = width * 2**stage
        layers += [_convolution(before, after, stride=2), *(Residual(after) for _ in range(count))]
        before = after
    return nn.Sequential(*layers), _head(before, classes)


def small_mobilenet(
    classes: int, width: int = 16, blocks: tuple[int, ...] = (0, 1)
) -> tuple[nn.Sequential, nn.Sequential]:
    """As `small_resnet`, of MobileNetV2's blocks: a stage halves the side in its first one, `blocks` more follow."""
    layers: list[nn.Module] = [_convolution(3, width, stride=2)]
    before = width
    for stage, count in enumerate(blocks):
        after = width * 2**stage
        layers += [InvertedResidual(before, after, stride=2)] if stage else []
        layers += [InvertedResidual(after, after) for _ in range(count)]
        before = after
    last = 4 * before
    return nn.Sequential(*layers, _convolution(before, last, kernel=1)), _head(last, classes)


def small_vit(classes: int, image_size: int, patch: int, width: int = 64, depth: int = 4) -> nn.Module:
    """torchvision's VisionTransformer, small: images [C, 3, S, S] of S = `image_size` to logits [C, classes].

    Raises:
        MixloaderError: torchvision cannot be imported.
    """
    from mixloader.tools.vision import import_torchvision

    model: nn.Module = import_torchvision().models.VisionTransformer(
        image_size=image_size,
        patch_size=patch,
        num_layers=depth,
        num_heads=4,
        hidden_dim=width,
        mlp_dim=2 * width,
        num_classes=classes,
    )
    return model
