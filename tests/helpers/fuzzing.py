"""What fuzzing needs: damaged bytes, a bound of time for each input, one of memory for all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

SECONDS = 5  # that one input may take
MOST_GROWTH = 64 << 20  # bytes of memory that it may


@contextmanager
def bounded() -> Iterator[None]:
    """Fails what takes too long, or too much memory, for one input."""

    def stop(*_: object) -> None:
        raise AssertionError(f"still at work after {SECONDS} s")

    Path("/proc/self/clear_refs").write_text("5")  # the most that was resident is counted anew
    held = _memory("VmRSS")
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert _memory("VmHWM") - held < MOST_GROWTH


def _memory(name: str) -> int:
    """Bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    raise AssertionError(name)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes flipped, cut, put in, doubled."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "zero", "drop"]))
        length = draw(st.sampled_from([1, 2, 7, 100, 512, 513, 5120]))
        if kind == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=600))
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        else:
            del data[at : at + length]
    return bytes(data)


def fuzz(make: Callable[[st.DataObject], None], number: int) -> None:
    """Try so many inputs. The first that fails is shown as it is: looking for a smaller one would take minutes."""

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        make(data)

    each()
