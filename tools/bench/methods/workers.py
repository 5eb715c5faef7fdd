"""Workers: several runs at once, each in a process of its own with one thread."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from mixloader.tools.bench.methods.trial import Trial, run_trial
from mixloader.tools.datasets import Splits


def run_all(trials: list[Trial], splits: Splits, jobs: int) -> Iterator[dict[str, Any]]:
    """Run trials, `jobs` at once, and give each result when it is there.

    With one job a run has all the threads of this process, and takes place in it.
    """
    if jobs == 1:
        import os

        for trial in trials:
            yield run_trial(trial, splits, len(os.sched_getaffinity(0)))
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run_trial, trial, splits, 1) for trial in trials]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
