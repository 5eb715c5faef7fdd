"""What a figure was measured on: versions, processor and command line."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """The versions of what was measured, the processor's model, the cores at hand and the command line."""
    import numpy
    import PIL
    import torch
    from nvidia import dali

    return {
        "command": shlex.join(["mixloader", *sys.argv[1:]]),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "dali": dali.__version__,
            "pillow": PIL.__version__,
            "numpy": numpy.__version__,
        },
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
