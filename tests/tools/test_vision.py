from __future__ import annotations

import importlib

import pytest

from mixloader.errors import MixloaderError
from mixloader.tools import vision


def test_torchvision_is_imported_beside_any_torch() -> None:
    module = vision.import_torchvision()
    assert module is vision.import_torchvision()
    assert module.models.resnet18().fc.out_features == 1000


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'torchvision'"), r"install it with `pip install mixloader\[vision\]`"),
        (ImportError("undefined symbol"), r"cannot be imported \(undefined symbol\)"),
        (RuntimeError("another reason"), r"cannot be imported \(another reason\)"),
    ],
)
def test_a_failing_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MixloaderError, match=message):
        vision.import_torchvision()
