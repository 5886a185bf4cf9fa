"""Which slice or series of a given file is meant: ``scan.nii.gz::slice=40``, ``series/::series=3``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.contract.modality import PartConfig
from core.errors import UserError, nearest
from core.generate.sampling_flags import finite_number
from core.io.geometry import SliceAt

MARK = "::"
_CHOICES = ("slice", "height", "seg", "series")
HINT = "add ::slice=NUMBER, ::slice=middle, ::height=MM or ::seg=FILE to it, or ::series=NUMBER for one of several"


def split_choice(value: str) -> tuple[str, str]:
    """Return a path and the choice behind it, with its mark; an empty choice where there is none."""
    path, mark, choice = value.rpartition(MARK)
    is_choice = bool(mark) and choice.partition("=")[0].strip() in _CHOICES
    return (path, f"{MARK}{choice}") if is_choice else (value, "")


def with_choice(config: PartConfig, choice: str, what: str) -> PartConfig:
    """Return the configuration of a reader that makes this choice of every file; see `HINT`.

    Raises `UserError`, which begins with ``what``, for a choice that means nothing, or that this reader has no use for.
    """
    field, value = _setting(choice.removeprefix(MARK), what)
    changed = _with_field(config, field, value, what)
    if changed is None:
        raise UserError(f"{what}: files of this modality have no {field} to choose; leave {choice} out")
    return changed


def published_choice(choice: str, file: str) -> str:
    """Return a choice as provenance shows it: names of masks and series, which may be of patients, as SHA-256."""
    name, _, text = (part.strip() for part in choice.removeprefix(MARK).partition("="))
    if name == "seg":
        content = (Path(file).parent / text).read_bytes()
    elif name == "series" and not text.isdecimal() and text != "most_slices":
        content = text.encode()
    else:
        return choice
    return f"{MARK}{name}=sha256:{hashlib.sha256(content).hexdigest()}"


def _setting(choice: str, what: str) -> tuple[str, Any]:
    name, _, text = (part.strip() for part in choice.partition("="))
    number = finite_number(text.removesuffix("mm").strip())
    if name == "slice" and (text == "middle" or text.isdecimal()):
        return "volume", text if text == "middle" else SliceAt(index=int(text))
    if name == "height" and number is not None:
        return "volume", SliceAt(superior_mm=number)
    if name == "seg" and text:
        return "volume", SliceAt(mask=text)
    if name == "series" and text:
        if text == "most_slices":
            return "series", text
        return "series", {"number": int(text)} if text.isdecimal() else {"description": text}
    raise UserError(f"{what}: '{choice}' is no choice ({HINT}){nearest(name, _CHOICES)}")


def _with_field(config: PartConfig, field: str, value: Any, what: str) -> PartConfig | None:
    """Return the configuration with a field changed, there or in the formats that it consists of."""
    changes: Mapping[str, Any]
    if field in type(config).model_fields:
        changes = {field: value}
    else:
        inner = {name: getattr(config, name) for name in type(config).model_fields}
        parts = {name: part for name, part in inner.items() if isinstance(part, PartConfig)}
        changes = {
            name: changed
            for name, part in parts.items()
            if (changed := _with_field(part, field, value, what)) is not None
        }
    if not changes:
        return None
    try:
        return type(config).model_validate({**dict(config), **changes})
    except ValidationError as error:
        raise UserError(f"{what}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
