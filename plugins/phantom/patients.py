"""The patients of a folder: made one by one or in parallel, by one maker at a time, those that are there left alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from core.api import in_order, num_cores, progress
from core.io import lock_file
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
    missing = missing_from(root, num)
    made = in_order(make, missing, workers or num_cores())
    with progress("phantom patients", num, silent=not (shown and missing)) as watcher:
        for done, _ in enumerate(made, num - len(missing) + 1):
            watcher(done)


def cohort_lock(root: Path) -> IO[Any]:
    """Return the folder's lock, held until it is closed or the process ends; `UserError` where another holds it."""
    return lock_file(root / ".lock", f"{root}: another process is making this cohort; wait for it, or stop it")
