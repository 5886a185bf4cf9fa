"""Write the whole cohort to disk: in parallel, resumable, with bytes that do not depend on the number of workers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from core.api import UserError
from core.io import atomic_write
from plugins.phantom.files import FORMAT, PATIENTS, write_study
from plugins.phantom.manifest import MANIFEST, write_manifest
from plugins.phantom.patients import cohort_lock, make_missing, missing_from, remove_unfinished
from plugins.phantom.reports import write_reports
from plugins.phantom.study import PIXELS, make_study

SETTINGS = "cohort.json"
NUM = 1200


def make_cohort(
    root: Path, num: int | None = None, seed: int | None = None, workers: int | None = None, progress: bool = True
) -> None:
    """Write the missing patients of a cohort of ``num``; a finished cohort is left as it is.

    By default ``num`` and ``seed`` are those of the folder, or 1,200 and 0 where it is new, and ``workers`` is the
    number of cores. `UserError`: the folder holds a cohort of other settings or something else, or another process
    writes it.
    """
    root = Path(root)
    settings = resolve_settings(root, num, seed)
    if (root / MANIFEST).is_file():
        return
    (root / PATIENTS).mkdir(parents=True, exist_ok=True)
    with cohort_lock(root):
        write_settings(root / SETTINGS, settings)
        remove_unfinished(root)
        make_missing(root, settings["num"], partial(make_patient, root, settings["seed"]), workers, progress)
        write_reports(root, settings["seed"], settings["num"])
        write_manifest(root, settings["num"])


def missing_patients(root: Path, num: int | None = None, seed: int | None = None) -> tuple[int, int]:
    """Return how many patients are missing, and of how many. `UserError` as in `make_cohort`."""
    settings = resolve_settings(Path(root), num, seed)
    return len(missing_from(Path(root), settings["num"])), settings["num"]


def make_patient(root: Path, seed: int, patient: int) -> int:
    """Compute and write a patient; return the patient's number."""
    write_study(root, seed, patient, make_study(seed, patient))
    return patient


def resolve_settings(root: Path, num: int | None, seed: int | None) -> dict[str, int]:
    """Return the settings of the cohort in the folder, or those of the cohort to make; `UserError` if they differ."""
    requested: dict[str, int | None] = {"format": FORMAT, "num": num, "seed": seed, "pixels": PIXELS}
    return read_settings(root, SETTINGS, requested) or {
        "format": FORMAT,
        "num": NUM if num is None else num,
        "seed": seed or 0,
        "pixels": PIXELS,
    }


def read_settings(root: Path, name: str, requested: dict[str, Any], flag: str = "--root") -> dict[str, int] | None:
    """Return the settings in a folder, ``None`` where it is new.

    ``requested`` may leave some settings open (``None``); ``flag`` is named in errors. `UserError`: the folder is in
    use for something else, or holds other settings.
    """
    path = root / name
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(_is_foreign(entry) for entry in root.iterdir())):
            raise UserError(f"{root}: is in use for something else; choose a new or empty folder with {flag}")
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); remove {root} and make the cohort again") from error
    differ = [
        f"{key} {settings.get(key)} (requested: {value})"
        for key, value in requested.items()
        if value not in (None, settings.get(key))
    ]
    if differ:
        raise UserError(f"{root}: holds a cohort with {', '.join(differ)}; choose another {flag}, or remove the folder")
    return settings


def write_settings(path: Path, settings: dict[str, int]) -> None:
    """Write the settings of a folder."""
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _is_foreign(path: Path) -> bool:
    """Return whether a file is not the cohort's: an early kill leaves a lock and an empty folder."""
    return not path.name.startswith(".") and not (path.name == PATIENTS and not any(path.iterdir()))
