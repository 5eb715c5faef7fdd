"""A run that is killed at any moment, again and again, ends as one that never was."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from helpers.images import cls_members, write_tar

SCRIPT = Path(__file__).parents[1] / "helpers" / "killed_run.py"
SAMPLES, STEPS = 120, 8
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 20.0  # seconds within which a process ends that was told to


def start(shards: Path, folder: Path, epochs: int) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), str(shards), str(folder), str(epochs)]

    def heed() -> None:  # a shell may have it ignored in the background, from the first moment on
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


def run_until(process: subprocess.Popen[str], lines: int, delay: float, line: str = "") -> bool:
    """Wait for so many lines of progress, for one that begins so, and then some; False where the run is over before."""
    assert process.stdout is not None
    found = "start"
    while lines > 0 or not found.startswith(line):
        found = process.stdout.readline()
        if not found:
            return False
        lines -= 1
    time.sleep(delay)
    return True


MOMENTS = {
    "starting": (0, 0, 1.2),
    "loading and planning": (1, 1, 0.02),
    "training": (2, 9, 0.02),
    "saving": (2, 9, 0.004),
}
"""Lines of progress, at least and most, and seconds behind them at most."""


def end(process: subprocess.Popen[str], sent: signal.Signals) -> str:
    """Send a signal: the process ends by it, soon, and not by something else. What it wrote on standard error."""
    process.send_signal(sent)
    drained = threading.Thread(target=process.stdout.read)  # type: ignore[union-attr]
    drained.start()
    begun = time.monotonic()
    code = process.wait(PATIENCE)
    drained.join()
    errors: str = process.stderr.read()  # type: ignore[union-attr]
    assert time.monotonic() - begun < PATIENCE
    if code == 0:
        return errors  # it was over already
    if sent == signal.SIGINT:
        assert code in (-signal.SIGINT, 1, 130), (code, errors[-2000:])
        assert "KeyboardInterrupt" in errors or not errors, errors[-2000:]
    else:
        assert code == -sent, (code, errors[-2000:])
    return errors


def same(one: Any, other: Any) -> bool:
    """To the last bit, also where a loss is no number."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if torch.is_tensor(one):
        return bool(one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes())
    return bool(one == other)


def test_a_run_that_is_killed_again_and_again_trains_every_sample_exactly_once(
    thorough: bool, note: Any, tmp_path: Path
) -> None:
    write_tar(tmp_path / "set" / "a.tar", cls_members([i % 5 for i in range(SAMPLES)]))
    kills, epochs, chance = (60, 150, random.Random(0)) if thorough else (4, 10, random.Random(1))
    plain = start(tmp_path / "set", tmp_path / "plain", epochs)
    done: Counter[str] = Counter()
    moments: Counter[str] = Counter()
    while done.total() < kills:
        process = start(tmp_path / "set", tmp_path / "killed", epochs)
        moment = chance.choice(list(MOMENTS)) if thorough else list(MOMENTS)[done.total() % 4]
        least, most, seconds = MOMENTS[moment]
        line = "saving" if moment == "saving" else ""
        reached = run_until(process, chance.randint(least, most), chance.uniform(0, seconds), line)
        sent = SIGNALS[done.total() % 3]
        end(process, sent)
        if not reached:
            break
        done[sent.name] += 1
        moments[moment] += 1
    _, errors = plain.communicate(timeout=300)
    assert plain.returncode == 0, errors
    last = start(tmp_path / "set", tmp_path / "killed", epochs)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors

    expected, found = (torch.load(tmp_path / run / "final.pt") for run in ("plain", "killed"))
    counts = expected["trained"]
    assert ((counts == 0) | (counts == 1)).all()
    assert (counts.sum(1) > SAMPLES // 2).all()  # MixTrain lets some sit out
    assert torch.equal(found["trained"], counts)
    for of in (lambda s: s["model"], lambda s: s["loader"]["ledger"], lambda s: s["optimizer"]):
        assert same(of(expected), of(found))
    plans = [(tmp_path / run / "plan.npz").read_bytes() for run in ("plain", "killed")]
    assert plans[0] == plans[1]
    counts = {"total": done.total(), "epochs": epochs, "samples": SAMPLES, **done}
    note("kills", **counts, when=dict(moments), lost=0, twice=0, weights_equal=True, last_plan_equal=True)
    assert done.total() >= min(kills, 3), "the run was over before it could be killed"


def test_ctrl_c_ends_a_run_as_keyboard_interrupt_in_its_loop(tmp_path: Path) -> None:
    """Within seconds, whatever its drawing threads are at."""
    write_tar(tmp_path / "set" / "a.tar", cls_members([i % 5 for i in range(SAMPLES)]))
    process = start(tmp_path / "set", tmp_path / "run", 1000)
    assert run_until(process, 20, 0.01)
    errors = end(process, signal.SIGINT)
    assert process.returncode == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")
