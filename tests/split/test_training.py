"""Every kind of network trains on composites with the stock criterion."""

from collections.abc import Callable

import pytest
import torch
from helpers.transformers import CLASSES, of_timm, of_torchvision
from torch import nn

from mixloader.split import SLOTS, SplitTarget, split_model
from mixloader.tools.vision import import_torchvision

models = import_torchvision().models

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: models.resnet18(num_classes=CLASSES),
    "resnet34": lambda: models.resnet34(num_classes=CLASSES),
    "resnet50": lambda: models.resnet50(num_classes=CLASSES),
    "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=CLASSES),
    "torchvision's ViT": of_torchvision,
    "timm's ViT": of_timm,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_falls_and_every_parameter_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = split_model(NETWORKS[name]()).train()
    images = torch.randn(4, 4, 64, 64).contiguous(memory_format=torch.channels_last)
    images[:, 3] = 0
    images[:3, 3, :, 32:] = 1  # three pairs and a whole canvas
    filled = torch.tensor([[1, 1, 0, 0]] * 3 + [[1, 0, 0, 0]]).bool()
    labels = torch.randint(CLASSES, (4, SLOTS))
    target = SplitTarget(
        {
            "labels": labels.where(filled, -100),
            "ids": torch.arange(4 * SLOTS).view(4, SLOTS).where(filled, -1),
            "weights": filled.float(),
            "norms": filled.float(),
            "shares": filled / filled.sum(1, keepdim=True),
        }
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = criterion(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[2:]) < losses[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
