"""The whole cohort on disk: parallel, resumable, the same bytes whoever works."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from core.api import UserError
from core.io import replacing
from plugins.phantom.files import FORMAT, PART, PATIENTS, folder_name, write_study
from plugins.phantom.manifest import MANIFEST, write_manifest
from plugins.phantom.reports import write_reports
from plugins.phantom.study import PIXELS, make_study

SETTINGS = "cohort.json"
NUM = 1200


def make_cohort(
    root: Path, num: int | None = None, seed: int | None = None, workers: int | None = None, progress: bool = True
) -> None:
    """Write what is missing of a cohort of ``num`` patients; a finished one is left as it is.

    Left out, ``num`` and ``seed`` are those of the folder, or 1,200 and 0 where it is new; ``workers`` is the number
    of cores. `UserError`: the folder holds a cohort of other settings or something else, or another process writes it.
    """
    root = Path(root)
    settings = _settings(root, num, seed)
    if (root / MANIFEST).is_file():
        return
    (root / PATIENTS).mkdir(parents=True, exist_ok=True)
    with _alone(root):
        _write(root / SETTINGS, json.dumps(settings, indent=1) + "\n")
        for left in (root / PATIENTS).glob(f"{PART}*"):
            shutil.rmtree(left)
        missing = [patient for patient in range(settings["num"]) if not _is_there(root, patient)]
        _make_patients(root, settings["seed"], missing, settings["num"], workers or _cores(), progress)
        write_reports(root, settings["seed"], settings["num"])
        write_manifest(root, settings["num"])


def missing_patients(root: Path, num: int | None = None, seed: int | None = None) -> tuple[int, int]:
    """How many patients are still to be made, and of how many; refuses what `make_cohort` would refuse."""
    settings = _settings(Path(root), num, seed)
    return sum(not _is_there(Path(root), patient) for patient in range(settings["num"])), settings["num"]


def make_patient(root: Path, seed: int, patient: int) -> int:
    """Compute and write one patient."""
    write_study(root, seed, patient, make_study(seed, patient))
    return patient


def _make_patients(root: Path, seed: int, missing: list[int], num: int, workers: int, progress: bool) -> None:
    with _bar(progress and bool(missing), num, num - len(missing)) as advance:
        make = partial(make_patient, root, seed)
        if workers == 1:
            for patient in missing:
                make(patient)
                advance()
            return
        for _ in _in_parallel(make, missing, workers):
            advance()


def _in_parallel(make: Any, missing: list[int], workers: int) -> Iterator[int]:
    from multiprocessing import get_context

    # Spawned, not forked: a fork inherits locks of threads that it does not have.
    with ProcessPoolExecutor(min(workers, max(1, len(missing))), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(make, patient) for patient in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _bar(shown: bool, num: int, done: int) -> Iterator[Any]:
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("phantom"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("patients", total=num, completed=done)
        yield lambda: bar.advance(task)


def _settings(root: Path, num: int | None, seed: int | None) -> dict[str, int]:
    """What the folder holds or shall hold; `UserError` where the two differ."""
    path = root / SETTINGS
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(_foreign(found) for found in root.iterdir())):
            raise UserError(f"{root}: is in use for something else; choose a new or empty folder with --root")
        return {"format": FORMAT, "num": NUM if num is None else num, "seed": seed or 0, "pixels": PIXELS}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); remove {root} and make the cohort again") from error
    asked = {"format": FORMAT, "num": num, "seed": seed, "pixels": PIXELS}
    differ = [
        f"{key} {found.get(key)} (asked: {value})"
        for key, value in asked.items()
        if value not in (None, found.get(key))
    ]
    if differ:
        raise UserError(f"{root}: holds a cohort with {', '.join(differ)}; choose another --root, or remove the folder")
    return found


def _foreign(path: Path) -> bool:
    """Whether a file is not from us: a kill before the settings are written leaves a lock and an empty folder."""
    return not path.name.startswith(".") and not (path.name == PATIENTS and not any(path.iterdir()))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
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


def _is_there(root: Path, patient: int) -> bool:
    return (root / PATIENTS / folder_name(patient)).is_dir()


def _write(path: Path, text: str) -> None:
    with replacing(path, overwrite=True) as beside:
        beside.write_text(text, encoding="utf-8")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
