"""The patients of a folder: made one by one or in parallel, by one maker at a time, those that are there left alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from core.api import UserError, progress
from plugins.phantom.files import PART, PATIENTS, folder_name


def missing_from(root: Path, num: int) -> list[int]:
    """Which of the first ``num`` patients have no folder yet."""
    return [patient for patient in range(num) if not (root / PATIENTS / folder_name(patient)).is_dir()]


def remove_unfinished(root: Path) -> None:
    """Remove what a killed maker has left half-written."""
    for left in (root / PATIENTS).glob(f"{PART}*"):
        shutil.rmtree(left)


def make_missing(root: Path, num: int, make: Callable[[int], object], workers: int | None, shown: bool) -> None:
    """Call ``make`` for every patient that is missing, in ``workers`` processes (``None``: one per core).

    ``shown``: with progress on standard error.
    """
    missing, workers = missing_from(root, num), workers or _cores()
    made = map(make, missing) if workers == 1 else _in_parallel(make, missing, workers)
    with progress("phantom patients", num, silent=not (shown and missing)) as watcher:
        for done, _ in enumerate(made, num - len(missing) + 1):
            watcher(done)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: two makers are then the user's to avoid
        yield
        return
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{root}: another process is making this cohort; wait for it, or stop it") from error
        yield


def _in_parallel(make: Callable[[int], object], missing: Sequence[int], workers: int) -> Iterator[object]:
    from multiprocessing import get_context

    # Spawned, not forked: a fork inherits locks of threads that it does not have.
    with ProcessPoolExecutor(min(workers, max(1, len(missing))), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(make, patient) for patient in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
