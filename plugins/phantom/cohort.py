"""The whole cohort on disk: parallel, resumable, the same bytes whoever works."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from core.api import UserError
from core.io import atomic_write
from plugins.phantom.files import FORMAT, PATIENTS, write_study
from plugins.phantom.manifest import MANIFEST, write_manifest
from plugins.phantom.patients import alone, make_missing, missing_from, remove_unfinished
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
    settings = settings_of(root, num, seed)
    if (root / MANIFEST).is_file():
        return
    (root / PATIENTS).mkdir(parents=True, exist_ok=True)
    with alone(root):
        keep_settings(root / SETTINGS, settings)
        remove_unfinished(root)
        make_missing(root, settings["num"], partial(make_patient, root, settings["seed"]), workers, progress)
        write_reports(root, settings["seed"], settings["num"])
        write_manifest(root, settings["num"])


def missing_patients(root: Path, num: int | None = None, seed: int | None = None) -> tuple[int, int]:
    """How many patients are still to be made, and of how many; refuses what `make_cohort` would refuse."""
    settings = settings_of(Path(root), num, seed)
    return len(missing_from(Path(root), settings["num"])), settings["num"]


def make_patient(root: Path, seed: int, patient: int) -> int:
    """Compute and write one patient."""
    write_study(root, seed, patient, make_study(seed, patient))
    return patient


def settings_of(root: Path, num: int | None, seed: int | None) -> dict[str, int]:
    """What the folder holds or shall hold; `UserError` where the two differ."""
    asked: dict[str, int | None] = {"format": FORMAT, "num": num, "seed": seed, "pixels": PIXELS}
    found = kept_settings(root, SETTINGS, asked)
    return found or {"format": FORMAT, "num": NUM if num is None else num, "seed": seed or 0, "pixels": PIXELS}


def kept_settings(root: Path, name: str, asked: dict[str, Any], flag: str = "--root") -> dict[str, int] | None:
    """The settings in a folder, ``None`` where it is new; ``asked`` may leave some open, ``flag`` is named in errors.

    `UserError`: the folder is in use for something else, or holds other settings.
    """
    path = root / name
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(_foreign(found) for found in root.iterdir())):
            raise UserError(f"{root}: is in use for something else; choose a new or empty folder with {flag}")
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); remove {root} and make the cohort again") from error
    differ = [
        f"{key} {found.get(key)} (asked: {value})"
        for key, value in asked.items()
        if value not in (None, found.get(key))
    ]
    if differ:
        raise UserError(f"{root}: holds a cohort with {', '.join(differ)}; choose another {flag}, or remove the folder")
    return found


def keep_settings(path: Path, settings: dict[str, int]) -> None:
    """Write the settings of a folder."""
    with atomic_write(path, overwrite=True) as beside:
        beside.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _foreign(path: Path) -> bool:
    """Whether a file is not from us: a kill before the settings are written leaves a lock and an empty folder."""
    return not path.name.startswith(".") and not (path.name == PATIENTS and not any(path.iterdir()))
