"""A contestant's process, and how it is asked."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO, Any, Self, cast

from mixloader.tools.bench.loader.data import last_line

_START_SECONDS, _END_SECONDS, _FORCE_SECONDS = 180.0, 10.0, 3.0


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a race: Ctrl-C, a service manager or `timeout`, a terminal that is closed."""

SETTINGS = {
    # Torch's own threads would wait in a loop for cores that workers are busy on: nobody gains from them.
    "OMP_NUM_THREADS": "1",
    # Memory of large batches is used again, or comes in large pages: clearing small ones takes up to a quarter of the
    # time of a loader that allocates every batch anew.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "THP_MEM_ALLOC_ENABLE": "1",  # torch's name for it
}
"""Variables for every contestant."""


class ContestantError(Exception):
    """A contestant died, hung, or delivered what it must not: it is named in the result, the others go on."""


class Process:
    """A contestant that was started on some cores, and everything that it starts; all of it ends with the context.

    Args:
        command: the program; it is given its task as the last argument.
        task: the fields of a `protocol.Task`.
        cores: the numbers of the cores that it may use.
        environment: variables to set besides those of this process.
    """

    def __init__(
        self, command: list[str], task: dict[str, Any], cores: set[int], environment: dict[str, str] | None = None
    ) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by __exit__)
        with _confined(cores):  # inherited, so that whatever it starts, and whenever, stays there
            self._process = subprocess.Popen(
                [*command, json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                env={**os.environ, **SETTINGS, **(environment or {})},
                start_new_session=True,  # Ctrl-C ends this process, which ends the whole group then
            )
        self._handle = os.pidfd_open(self._process.pid)

    def wait_ready(self) -> None:
        """Wait for its first batch.

        Raises:
            ContestantError: there is none.
        """
        self._answer(_START_SECONDS)

    def ask(self, seconds: float, **order: Any) -> dict[str, Any]:
        """Give an order, and wait for the answer for so long. In between, it and all its workers are stopped.

        Raises:
            ContestantError: there is none.
        """
        self._signal(signal.SIGCONT)
        with suppress(OSError):  # it died: there will be no answer
            print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer(seconds)

    def _answer(self, seconds: float) -> dict[str, Any]:
        out = cast(IO[str], self._process.stdout)
        try:
            # The process itself is waited for, too: where it died, workers may still hold the other end of the pipe.
            ready: list[Any] = select.select([out.fileno(), self._handle], [], [], seconds)[0]
            if not ready:
                raise ContestantError(f"no answer within {seconds:.0f} s")
            line = out.readline() if out.fileno() in ready else ""
            if not line:
                raise ContestantError(self._reason())
        finally:
            self._signal(signal.SIGSTOP)  # also where it failed: the others' turns come, on the same cores
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _reason(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._said.seek(0)
        return last_line(self._said.read())

    def _signal(self, number: int) -> bool:
        """Send a signal to it and its workers; whether anybody was left."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let it end by itself, unless something went wrong; then end whatever is left of it.

        Not by force at first: Python's keeper of shared memory, a process that outlives this, then takes it away.
        """
        self._signal(signal.SIGCONT)
        if kind is None and self._process.poll() is None:
            with suppress(OSError, subprocess.TimeoutExpired):
                print(json.dumps({"do": "end"}), file=self._process.stdin, flush=True)
                self._process.wait(_END_SECONDS)
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + _FORCE_SECONDS
        while self._signal(0) and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._handle)
        for file in (self._process.stdin, self._process.stdout, self._said):
            with suppress(OSError):
                file.close()  # type: ignore[union-attr]  # both are pipes


@contextmanager
def ends_as_interrupts() -> Iterator[None]:
    """Take whatever ends this process as Ctrl-C: contestants that are stopped, and temporary files, go no other way."""
    before = {end: signal.signal(end, signal.default_int_handler) for end in ENDS}
    try:
        yield
    finally:
        for end, handler in before.items():
            signal.signal(end, handler)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold back what ends this process until the block ends: within it something starts that has to be ended, too."""
    came: list[int] = []
    before = {end: signal.signal(end, lambda number, frame: came.append(number)) for end in ENDS}
    try:
        yield
    finally:
        for end, handler in before.items():
            signal.signal(end, handler)
        for number in came:
            signal.raise_signal(number)


@contextmanager
def _confined(cores: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
