"""What the page sends: a form and files, read into an `Order` with limits on all of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from core.errors import UserError
from core.generate.inputs import InputValue
from core.generate.reading import MARK
from core.studio.jobs import Order

MOST_LETTERS = 20_000  # of a text
_MOST_FILES = 2_000  # a series of DICOM has a file per slice
_MOST_FIELDS = 100
_ROLES = ("prompt", "condition")
_NUMBERS = {"scale": float, "context_scale": float, "steps": int}
_MOST_STEPS = 1_000


async def read_order(request: Request, texts: Sequence[str]) -> Order:
    """Read the form of a study. ``texts``: the modalities that are written into the page.

    Fields: ``text.NAME`` and ``negative.NAME``, ``outputs`` (comma-separated), ``seed``, ``scale``, ``context_scale``,
    ``steps``; files as ``file.NAME``, with ``role.NAME`` prompt or condition and ``choice.NAME`` (such as
    ``slice=middle``). Several files of one name are a series. Raises `UserError` for what is wrong.
    """
    async with request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=4 * MOST_LETTERS) as form:
        fields = {key: value for key, value in form.multi_items() if isinstance(value, str)}
        prompts: dict[str, InputValue] = {}
        prompts |= {name: text for name in texts if (text := _text(fields, f"text.{name}"))}
        negative: dict[str, InputValue] = {name: text for name in texts if (text := _text(fields, f"negative.{name}"))}
        outputs = tuple(name for name in fields.get("outputs", "").split(",") if name)
        if not outputs:
            raise UserError("no output is chosen; tick at least one")
        settings = {"seed": _number(fields, "seed", int) or 0, "sampler": _sampler(fields)}
        uploads = Path(tempfile.mkdtemp(prefix="medweave-"))
        try:
            conditions: dict[str, InputValue] = {}
            for name, value in _uploaded(form, uploads).items():
                choice = fields.get(f"choice.{name}", "").strip()
                of_role = {"prompt": prompts, "condition": conditions}.get(fields.get(f"role.{name}", "condition"))
                if of_role is None:
                    raise UserError(f"{name}: a file is a {' or a '.join(_ROLES)}")
                of_role[name] = Path(f"{value}{MARK}{choice}") if choice else value
        except BaseException:
            shutil.rmtree(uploads, ignore_errors=True)
            raise
    return Order(
        prompts=prompts, negative=negative, conditions=conditions, outputs=outputs, uploads=uploads, **settings
    )


def _uploaded(form: FormData, folder: Path) -> dict[str, Path]:
    """Store uploads in a folder per modality; return the file of each, or the folder of several."""
    stored: dict[str, list[Path]] = {}
    for key, value in form.multi_items():
        if not isinstance(value, UploadFile) or not value.filename:
            continue
        name = key.removeprefix("file.")
        if not name.isidentifier():
            raise UserError("a file was sent for no modality; choose what it shows")
        own = folder / name
        own.mkdir(exist_ok=True)
        path = own / _safe_name(value.filename, len(stored.get(name, ())))
        with path.open("xb") as target:
            shutil.copyfileobj(value.file, target)
        stored.setdefault(name, []).append(path)
    return {name: paths[0] if len(paths) == 1 else paths[0].parent for name, paths in stored.items()}


def _safe_name(name: str, number: int) -> str:
    """Return the last part of an uploaded name, made unique by ``number``: readers go by its suffix."""
    last = PurePosixPath(name.replace("\\", "/")).name
    letters = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in last).strip(". ")
    letters = letters[-100:] or "file"
    return letters if number == 0 else f"{number:05d}-{letters}"


def _text(fields: Mapping[str, str], key: str) -> str:
    text = fields.get(key, "").strip()
    if len(text) > MOST_LETTERS:
        raise UserError(f"the text has {len(text)} letters; at most {MOST_LETTERS} are read")
    return text


def _sampler(fields: Mapping[str, str]) -> dict[str, Any]:
    found = {name: _number(fields, name, kind) for name, kind in _NUMBERS.items()}
    if (found["steps"] or 0) > _MOST_STEPS:
        raise UserError(f"{found['steps']} steps: at most {_MOST_STEPS} on this page")
    return {name: value for name, value in found.items() if value is not None}


def _number(fields: Mapping[str, str], key: str, kind: type[int] | type[float]) -> Any:
    text = fields.get(key, "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{key} '{text[:40]}': give {what}") from None
