"""Fill the rivals' environment: run by `make bench-env` with that environment's own Python.

What could not be installed is written to `failed.json` beside the environment's `bin`, and the benchmark says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[4] / "constraints.txt"  # the versions that mixloader is tested with
LIBRARIES = "ffmpeg"  # the folder, in the environment, of FFmpeg's libraries under the names that SPDL looks for


def main() -> None:
    """Install the requirements one by one; say which failed, and end well all the same unless it was torch."""
    environment, failed = Path(sys.prefix), {}
    for line in Path(__file__).with_name("requirements.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        print(line, flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), *line.split()]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            failed[line.split()[-1].partition("==")[0]] = (done.stderr.strip().splitlines() or ["no message"])[-1]
            print(f"  failed: {done.stderr.strip()}", flush=True)
    link_ffmpeg(environment)
    (environment / "failed.json").write_text(json.dumps(failed, indent=2) + "\n")
    if "torch" in failed:
        sys.exit(1)


def link_ffmpeg(environment: Path) -> None:
    """Give the FFmpeg libraries of the package `av` their usual names, beside their own, so that SPDL finds them.

    The wheel names them after their contents (libavutil-5809ad29.so.60.26.102), which is what they call each other
    by; SPDL asks for libavutil.so.60.
    """
    folder = environment / LIBRARIES
    folder.mkdir(exist_ok=True)
    for library in environment.glob("lib/python*/site-packages/av.libs/*.so*"):
        usual = re.sub(r"^(lib(?:av|sw)[a-z]+)-[0-9a-f]+(\.so\.\d+).*", r"\1\2", library.name)
        for name in {library.name, usual}:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(library)


if __name__ == "__main__":
    main()
