"""The contestants: who they are, and how each is started."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mixloader.errors import MixloaderError

RIVALS = Path(__file__).parent / "rivals"
Kind = Literal["ours", "rival", "other", "limit"]

_DRAWING = ("torchvision", "simplejpeg")  # what most rivals draw with; our own environment has both


@dataclass(frozen=True)
class Contestant:
    """One who delivers canvases.

    Attributes:
        name: for people.
        program: a script of the rivals, or a module beside this one (ours and the limit).
        kind: `ours`; `rival`: the same pixels; `other`: other pixels; `limit`: no batches, only decoding and resizing.
        needs: the packages, besides torch, without which it cannot run.
        shards: the set of shards that it reads, or is compared with.
        tolerance: largest mean difference to the reference, drawn from what it reads, of 255; None where there is
            nothing to compare.
        options: for the program.
        notes: for the table.
    """

    name: str
    program: str
    kind: Kind
    needs: tuple[str, ...] = ()
    shards: str = "plain"
    tolerance: float | None = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def command(self, environment: Path) -> list[str]:
        """How it is started, up to its task.

        Args:
            environment: the rivals'.

        Raises:
            MixloaderError: there is no such environment.
        """
        if self.kind in ("ours", "limit"):
            return [sys.executable, "-m", f"mixloader.tools.bench.loader.{self.program}"]
        return [str(self.python(environment)), str(RIVALS / f"{self.program}.py")]

    def python(self, environment: Path) -> Path:
        """The rivals' Python; ours for those that need no more than it has, where there is no environment of rivals."""
        python = environment / "bin" / "python"
        if python.exists():
            return python
        wanted = [package for package in self.needs if package not in _DRAWING]
        if not wanted:
            return Path(sys.executable)
        raise MixloaderError(f"needs {' and '.join(wanted)}, and there is no {environment}: run `make bench-env`")


_SMALLER = "from a smaller copy of the image where that is enough: other pixels, and that is the point"
_FOURTH = "a third more bytes to write than the others: the region map is part of a batch, as a fourth channel"
_ALONE = "on one thread without a worker process, which is faster there"
_FFMPEG = "FFmpeg scales colours apart from brightness; 1.5 / 255 are allowed, for others 1"
_OTHER = "other pixels: the stock idiom, one decoded image a canvas"
_BARE = (
    "decoding and resizing only, in a process for each core, and nothing is delivered; finding a window in the JPEG "
    "(reading its header, cutting) counts as decoding"
)

CONTESTANTS = (
    Contestant("mixloader", "ours", "ours", notes=(_FOURTH,)),
    Contestant("mixloader, levels", "ours", "ours", shards="levels", notes=(_FOURTH, _SMALLER)),
    Contestant("mixloader, levels + markers", "ours", "ours", shards="markers", notes=(_FOURTH, _SMALLER)),
    Contestant("mixloader, pipeline=dali", "ours", "ours", options={"pipeline": "dali"}, notes=(_FOURTH,)),
    Contestant("DataLoader + torchvision v2", "torch_loader", "rival", _DRAWING, notes=(_ALONE,)),
    Contestant(
        "SPDL, its decoder",
        "spdl_loader",
        "rival",
        ("spdl-io", "torchvision"),
        tolerance=1.5,
        options={"decoder": "spdl"},
        notes=(_FFMPEG,),
    ),
    Contestant("SPDL, simplejpeg", "spdl_loader", "rival", ("spdl-io", *_DRAWING), options={"decoder": "simplejpeg"}),
    Contestant("Grain, threads", "grain_loader", "rival", ("grain", *_DRAWING), options={"workers": "threads"}),
    Contestant("Grain, processes", "grain_loader", "rival", ("grain", *_DRAWING), options={"workers": "processes"}),
    Contestant("LitData", "litdata_loader", "rival", ("litdata", *_DRAWING), notes=(_ALONE,)),
    Contestant("webdataset", "webdataset_loader", "rival", ("webdataset", *_DRAWING), notes=(_ALONE,)),
    Contestant("DALI", "dali_loader", "rival", ("nvidia-dali-cuda130", "torchvision")),
    Contestant("DataLoader + CutMix", "stock_loader", "other", _DRAWING, tolerance=None, notes=(_OTHER,)),
    Contestant("limit", "limit", "limit", tolerance=None, notes=(_BARE,)),
    Contestant("limit, levels", "limit", "limit", shards="levels", tolerance=None, notes=(_BARE,)),
    Contestant("limit, levels + markers", "limit", "limit", shards="markers", tolerance=None, notes=(_BARE,)),
)


def choose(only: str | None) -> tuple[Contestant, ...]:
    """The contestants whose names hold one of these, `a;b`; all where None.

    Raises:
        MixloaderError: none does.
    """
    if only is None:
        return CONTESTANTS
    wanted = [part.strip().lower() for part in only.split(";")]
    # "=name" is that one alone: the name of one may be a part of another's.
    chosen = tuple(
        c for c in CONTESTANTS if any(w == f"={c.name.lower()}" or (w and w in c.name.lower()) for w in wanted)
    )
    if not chosen:
        raise MixloaderError(f"--only {only}: there are {'; '.join(c.name for c in CONTESTANTS)}")
    return chosen
