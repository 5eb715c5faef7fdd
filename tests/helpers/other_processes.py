"""What other processes do with a loader, and how to ask them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from helpers.loaders import bytes_of

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader
from mixloader.maker import Batch

SECONDS = 60  # that another process may take


def iterate(loader: MixLoader) -> list[dict[str, bytes]] | str:
    """An epoch, or the rest of one; or why not."""
    try:
        return [bytes_of(batch) for batch in loader]
    except MixloaderError as error:
        return str(error)


def go_on(batches: Iterator[Batch]) -> int | str:
    """How many batches there are still; or why not."""
    try:
        return len(list(batches))
    except MixloaderError as error:
        return str(error)


def elsewhere(how: str, do: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of this module answers in a process of its own: soon, and without a word of trouble."""
    context: Any = multiprocessing.get_context(how)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, do, arguments))
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    try:
        assert here.poll(SECONDS), "it hangs"
        found = here.recv()
        process.join(SECONDS)
        assert process.exitcode == 0
        return found
    finally:
        process.kill()
        process.join()
        here.close()


def _answer(there: Connection, do: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    there.send(do(*arguments))
    there.close()
