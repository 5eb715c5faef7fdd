"""torchvision's functions, also beside a torch of another build.

There torchvision's compiled operators do not load, and its import fails because it describes two of them; once these
are declared, everything that is written in Python works. Its JPEG decoder is not.
"""

from __future__ import annotations

try:
    import torchvision
except RuntimeError:
    from torch.library import Library

    _library = Library("torchvision", "FRAGMENT")  # kept: torch forgets a library's operators when the object goes
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

__all__ = ["functional", "torchvision", "v2"]
