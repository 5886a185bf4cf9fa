"""Compute the missing patients of a folder, in one process or several; a lock keeps other commands out meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from core.api import in_order, num_cores, progress
from core.io import lock_file
from plugins.phantom.files import PART, PATIENTS, folder_name


def missing_from(root: Path, num: int) -> list[int]:
    """Return which of the first ``num`` patients have no folder yet."""
    return [patient for patient in range(num) if not (root / PATIENTS / folder_name(patient)).is_dir()]


def remove_unfinished(root: Path) -> None:
    """Remove the unfinished folders of an interrupted process."""
    for unfinished in (root / PATIENTS).glob(f"{PART}*"):
        shutil.rmtree(unfinished)


def make_missing(root: Path, num: int, make: Callable[[int], object], workers: int | None, shown: bool) -> None:
    """Call ``make`` for every patient that is missing, in ``workers`` processes (``None``: one per core).

    ``shown`` decides whether progress is shown on standard error.
    """
    missing = missing_from(root, num)
    results = in_order(make, missing, workers or num_cores())
    with progress("phantom patients", num, silent=not (shown and missing)) as watcher:
        for done, _ in enumerate(results, num - len(missing) + 1):
            watcher(done)


def cohort_lock(root: Path) -> IO[Any]:
    """Return the folder's lock, held until it is closed or the process ends; `UserError` where another holds it."""
    return lock_file(root / ".lock", f"{root}: another process is making this cohort; wait for it, or stop it")
