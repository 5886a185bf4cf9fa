"""What the page sends: a form and files, read into an `Order` with limits on all of it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from core.errors import UserError
from core.generate.inputs import InputValue
from core.generate.reading import MARK
from core.studio.jobs import Order
from core.types import Sample

MOST_LETTERS = 20_000  # of a text
_MOST_FILES = 2_000  # a series of DICOM has a file per slice
_MOST_FIELDS = 200
_MOST_STEPS = 1_000
_LARGEST_SEED = 2**63 - 1
_LONGEST_NAME = 100  # bytes
_ROLES = ("prompt", "condition")
# Not `seg`, which names a file: the page opens none that was not sent to it.
_CHOICE = re.compile(r"(slice|height|series)\s*=\s*[^/\\]{1,100}")


async def read_order(request: Request, texts: Sequence[str], folder: Path) -> Order:
    """Read the form of a study; what is uploaded goes to a new folder in ``folder``.

    ``texts``: the modalities that are written into the page. Fields: ``written.NAME`` and ``negative.NAME``,
    ``outputs`` (comma-separated), ``seed``, ``scale``, ``context_scale``, ``steps``; files as ``file.NAME``, with
    ``choice.NAME`` (such as ``slice=middle``). ``role.NAME`` of a text or file: ``prompt`` or ``condition``. Several
    files of one name are a series. Raises `UserError` for what is wrong.
    """
    async with request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=8 * MOST_LETTERS) as form:
        fields = {key: value for key, value in form.multi_items() if isinstance(value, str)}
        outputs = tuple(name for name in fields.get("outputs", "").split(",") if name)
        if not outputs:
            raise UserError("no output is chosen; tick at least one")
        negative = {name: text for name in texts if (text := _text(fields, "negative", name)) is not None}
        seed, sampler = _seed(fields), _sampler(fields)
        given: dict[str, dict[str, InputValue]] = {role: {} for role in _ROLES}
        for name in texts:
            if (text := _text(fields, "written", name)) is not None:
                given[_role(fields, name, "prompt")][name] = text
        uploads = Path(tempfile.mkdtemp(dir=folder))
        try:
            for name, path in (await run_in_threadpool(_stored, form, uploads)).items():
                given[_role(fields, name, "condition")][name] = _with_choice(path, fields.get(f"choice.{name}", ""))
        except BaseException:
            shutil.rmtree(uploads, ignore_errors=True)
            raise
    return Order(
        prompts=given["prompt"],
        conditions=given["condition"],
        negative=negative,
        outputs=outputs,
        seed=seed,
        sampler=sampler,
        uploads=uploads,
    )


def _stored(form: FormData, folder: Path) -> dict[str, Path]:
    """Store uploads in a folder per modality; return the file of each, or the folder of several."""
    stored: dict[str, list[Path]] = {}
    for key, value in form.multi_items():
        if not isinstance(value, UploadFile) or not value.filename:
            continue
        name = key.removeprefix("file.")
        if not name.isidentifier():
            raise UserError("a file was sent for no modality; choose what it shows")
        inner = folder / name
        inner.mkdir(exist_ok=True)
        path = inner / _safe_name(value.filename)
        if path.exists():  # of another folder of the series
            path = inner / f"{len(stored[name]):05d}-{path.name}"
        with path.open("xb") as target:
            shutil.copyfileobj(value.file, target)
        stored.setdefault(name, []).append(path)
    return {name: paths[0] if len(paths) == 1 else paths[0].parent for name, paths in stored.items()}


def _safe_name(name: str) -> str:
    """Return the last part of an uploaded name, whose suffix readers go by, in letters that a file may have."""
    last = PurePosixPath(name.replace("\\", "/")).name
    letters = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in last).strip(". ")
    return letters.encode()[-_LONGEST_NAME:].decode(errors="ignore") or "file"


def _with_choice(path: Path, choice: str) -> Path:
    """Return the path with the slice or series of it that is meant (`core.generate.reading`)."""
    choice = choice.strip()
    if not choice:
        return path
    if not _CHOICE.fullmatch(choice):
        raise UserError(f"'{choice[:40]}': write slice=40, slice=middle, height=-12 (mm) or series=3")
    return Path(f"{path}{MARK}{choice}")


def _role(fields: Mapping[str, str], name: str, default: str) -> str:
    role = fields.get(f"role.{name}", default)
    if role not in _ROLES:
        raise UserError(f"{name}: is a {' or a '.join(_ROLES)}")
    return role


def _text(fields: Mapping[str, str], kind: str, name: str) -> Sample | None:
    """Return a text as data, so that no file is looked for; ``None`` where the field is empty."""
    text = fields.get(f"{kind}.{name}", "").replace("\r\n", "\n").strip()  # browsers send both marks of a line end
    if len(text) > MOST_LETTERS:
        raise UserError(f"the text has {len(text)} letters; at most {MOST_LETTERS} are read")
    return Sample(modality=name, data=text) if text else None


def _seed(fields: Mapping[str, str]) -> int:
    seed = _number(fields, "seed", int) or 0
    if not 0 <= seed <= _LARGEST_SEED:
        raise UserError(f"seed {str(seed)[:40]}: give a whole number from 0 to {_LARGEST_SEED}")
    return seed


def _sampler(fields: Mapping[str, str]) -> dict[str, Any]:
    kinds: dict[str, type[int] | type[float]] = {"scale": float, "context_scale": float, "steps": int}
    numbers = {name: _number(fields, name, kind) for name, kind in kinds.items()}
    if (numbers["steps"] or 0) > _MOST_STEPS:
        raise UserError(f"{numbers['steps']} steps: at most {_MOST_STEPS} on this page")
    return {name: value for name, value in numbers.items() if value is not None}


def _number(fields: Mapping[str, str], key: str, kind: type[int] | type[float]) -> Any:
    text = fields.get(key, "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{key} '{text[:40]}': give {what}") from None
