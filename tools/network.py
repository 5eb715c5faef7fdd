"""A small residual network for small images: what the demo trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
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


def small_resnet(classes: int, width: int = 32) -> tuple[nn.Sequential, nn.Sequential]:
    """Features [C, 3, S, S] -> [C, 2 * width, S / 4, S / 4], and the head that pools them into `classes` logits."""
    features = nn.Sequential(
        _convolution(3, width, stride=2),
        Residual(width),
        _convolution(width, 2 * width, stride=2),
        Residual(2 * width),
    )
    return features, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes))
