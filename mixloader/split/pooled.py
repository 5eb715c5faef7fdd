"""The split of a network whose last feature map is average-pooled before the head."""

from typing import Any

from torch import Tensor, nn

from mixloader.errors import MixloaderError
from mixloader.split.hooks import Split, install, refuse_split, refuse_wrapped, shape_of, split_of
from mixloader.split.probe import check_head
from mixloader.split.regions import pool_regions


class PooledSplit(Split):
    """The state of such a model: where its map is made, and whether the channels are the map's last axis."""

    def __init__(self, path: str, channels_last: bool) -> None:
        """Path: where the module is that makes the map, for messages."""
        super().__init__(f"pass as features= the module whose output is average-pooled, not {path!r}")
        self.path = path
        self.channels_last = channels_last


def split_pooled(model: nn.Module, path: str, *, channels_last: bool = False) -> None:
    """Pool the output of the module at `path` per region, and run the head on every slot.

    The output is [N, D, h, w], or [N, h, w, D] if `channels_last`. Raises MixloaderError and warns as
    `mixloader.split.split_model` says.
    """
    refuse_wrapped(model)
    module = _find(model, path)
    refuse_split(model, module)
    check_head(model, module, path, channels_last=channels_last)
    install(model, PooledSplit(path, channels_last), module)
    module.register_forward_hook(_pool)


def _find(model: nn.Module, path: str) -> nn.Module:
    module = model
    for name in path.split("."):
        children = dict(module.named_children())
        if name not in children:
            raise MixloaderError(
                f"features={path!r}: {type(module).__qualname__} has no module {name!r}, only "
                f"{', '.join(children) or 'none'}: pass the path of the module whose output is average-pooled"
            )
        module = children[name]
        refuse_wrapped(module)
    return module


def _pool(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
    split: PooledSplit = split_of(module)
    if split.region_map is None:
        return None
    if not isinstance(output, Tensor) or output.dim() != 4:
        raise MixloaderError(
            f"features={split.path!r} gave {shape_of(output)}, not a map [N, D, h, w]: "
            "name the module whose output is average-pooled"
        )
    maps = output.movedim(3, 1) if split.channels_last else output
    pooled = pool_regions(maps, split.region_map).flatten(0, 1)  # [C * SLOTS, D]
    return pooled[:, None, None] if split.channels_last else pooled[:, :, None, None]
