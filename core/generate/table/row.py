"""A row of a table of requests: what its columns may hold, and what it asks for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, ValidationError, field_validator

from core.config.sampler import DEFAULT, LARGEST_SCALE
from core.engine.rng import derived_seed
from core.errors import UserError, join_choices, nearest
from core.generate.output.folder import COMMAND, TABLES

MOST_STUDIES = 1_000_000  # of one row
MOST_CHARACTERS = 20_000  # of a cell
_PLAIN = ("study_id", "seed", "num", "split")
_BY_MODALITY = ("prompt", "negative_prompt", "condition", "prompt_weight", "guidance_scale", "context_scale")
_FOR_ALL = ("guidance_scale", "context_scale")  # may stand without a modality
_LABEL = "label"
_LABELS = {"1.0": "1", "0.0": "0", "true": "1", "false": "0"}
_STUDY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SEEDS = 2**31

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=0, le=LARGEST_SCALE, allow_inf_nan=False)]


def _scales_by_modality(value: Any) -> Any:
    """Return scales by modality; a single one is that of all outputs."""
    return value if isinstance(value, Mapping) else {DEFAULT: value}


class TableRow(BaseModel):
    """What one row asks for. Texts and files are by modality, as the flags of ``core.generate`` give them.

    ``line`` is that of the file. Without a ``seed`` the row has one of its own, which `study_id` and the seed of the
    command decide, so that rows may be added or sorted without changing the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    line: int
    study_id: str
    prompt: Mapping[str, str] = {}
    negative_prompt: Mapping[str, str] = {}
    condition: Mapping[str, str] = {}
    prompt_weight: Mapping[str, Positive] = {}
    guidance_scale: Annotated[Mapping[str, Scale], BeforeValidator(_scales_by_modality)] = {}
    context_scale: Annotated[Mapping[str, Scale], BeforeValidator(_scales_by_modality)] = {}
    label: Mapping[str, str] = {}
    seed: NonNegativeInt | None = None
    num: Annotated[int, Field(ge=1, le=MOST_STUDIES)] = 1
    split: Literal["", "train", "validation", "test"] = ""

    @field_validator("label", mode="before")
    @classmethod
    def _plain_labels(cls, value: Any) -> Any:
        """Write 1 and 0 in one way: tables with gaps have 1.0, and JSON has true."""
        return {name: _LABELS.get(str(label).strip().lower(), label) for name, label in dict(value).items()}

    @field_validator("study_id")
    @classmethod
    def _require_name(cls, value: str) -> str:
        if not _STUDY_ID.fullmatch(value) or value.endswith("."):
            raise ValueError("is no name of a folder: letters, digits, '.', '_' and '-', at most 64, no dot at the end")
        if value.lower() in (COMMAND, *TABLES):
            raise ValueError("is the name of a file that is written beside the studies")
        return value

    def seed_of(self, command_seed: int) -> int:
        """Return the seed of the row's studies."""
        return derived_seed(command_seed, "table", self.study_id) % _SEEDS if self.seed is None else self.seed

    def study_names(self) -> list[str]:
        """Return the names of the folders of its studies: its id, with a number where they are several."""
        return [self.study_id] if self.num == 1 else [f"{self.study_id}-{index:04d}" for index in range(self.num)]

    def digest(self) -> str:
        """Return a name for everything that it asks for, by which a changed row is noticed."""
        content = self.model_dump(mode="json", exclude={"line"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def kind(self) -> str:
        """Return a name for what rows of one batch have in common: which inputs they have, and how they are guided."""
        inputs = [sorted(table) for table in (self.prompt, self.negative_prompt, self.condition)]
        numbers = [sorted(table.items()) for table in (self.prompt_weight, self.guidance_scale, self.context_scale)]
        return json.dumps([inputs, numbers])


def require_columns(columns: Collection[str], modalities: Collection[str], where: str) -> None:
    """Raise `UserError`, which begins with ``where``, for a column that no row can have."""
    for column in columns:
        name, dot, rest = column.partition(".")
        if name == _LABEL and rest.strip() and "|" not in rest:
            continue
        if dot and name in _BY_MODALITY and rest not in modalities:
            raise UserError(
                f"{where}: column '{column}' names no modality of this run (known: {join_choices(modalities)})"
                f"{nearest(rest, modalities)}; correct it, or take it out"
            )
        if column not in (*_PLAIN, *_FOR_ALL) and not (dot and name in _BY_MODALITY):
            known = (*_PLAIN, *_FOR_ALL, *(f"{each}.MODALITY" for each in _BY_MODALITY), f"{_LABEL}.NAME")
            raise UserError(
                f"{where}: no column '{column}' (known: {', '.join(known)}){nearest(column, known)}; correct it, or"
                " take it out"
            )


def parsed_row(line: int, cells: Mapping[str, Any]) -> TableRow:
    """Return the row of cells by column, of which empty ones count as left out; `UserError` says what is wrong."""
    fields: dict[str, Any] = {}
    for column, value in cells.items():
        name, dot, rest = column.partition(".")
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if isinstance(value, str) and len(value) > MOST_CHARACTERS:
            raise UserError(f"{column}: has {len(value)} characters, at most {MOST_CHARACTERS} are read; shorten it")
        if dot or name in _FOR_ALL:
            fields.setdefault(name, {})[rest if dot else DEFAULT] = value
        else:
            fields[name] = value
    try:
        return TableRow.model_validate({"line": line, **fields})
    except ValidationError as error:
        fault = error.errors()[0]
        column = ".".join(str(part) for part in fault["loc"] if part != DEFAULT)
        raise UserError(f"{column}: {fault['msg']}, found {json.dumps(fault['input'], default=str)[:40]}") from None
