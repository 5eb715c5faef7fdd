"""What a figure was measured on: versions, processor and command line."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "simplejpeg", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "pillow", "numpy")


def describe_machine() -> dict[str, Any]:
    """The versions of what was measured, the processor's model, the cores at hand and the command line."""
    return {
        "command": shlex.join(["mixloader", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), **_versions()},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
