"""What the command line and the run file say, as layers of tables."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.preset import PHASES
from core.tables import merged, read_toml

Layer = tuple[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the command line gave; ``None`` and empty where it said nothing."""

    flow: str | None = None
    recipe: str | None = None
    preset: str | None = None
    data: str | None = None
    phase: str | None = None
    config: Path | None = None
    set: Sequence[str] = ()
    run: Path | None = None
    device: str | None = None
    seed: int | None = None
    steps: int | None = None
    long: bool = False


def layers_of(flags: Flags) -> list[Layer]:
    """Run file, flags and ``--set``, lowest first."""
    layers = [(f"--config {flags.config}", read_toml(flags.config))] if flags.config else []
    return [*layers, ("command line", _from_flags(flags)), ("--set", _from_sets(flags.set))]


def _from_flags(flags: Flags) -> dict[str, Any]:
    """The flags as tables."""
    given: dict[str, Any] = {
        key: value
        for key in ("recipe", "preset", "flow", "run", "device", "seed")
        if (value := getattr(flags, key)) is not None
    }
    if flags.data is not None:
        given["data"] = {"names": _names(flags.data)}
        if not given["data"]["names"]:
            raise UserError("--data names no data set; give names from [datasets] of registry.toml, comma-separated")
    if flags.phase is not None:
        given["phases"] = {"run": _names(flags.phase)}
    if flags.steps is not None:
        given["training"] = {
            phase: {"steps": flags.steps, "steps_tokens": flags.steps, "epochs": 0} for phase in PHASES
        }
    return given


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _from_sets(sets: Sequence[str]) -> dict[str, Any]:
    """``key.key=value`` items as tables; a later item wins."""
    tables: dict[str, Any] = {}
    for item in sets:
        path, equals, value = item.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise UserError(f"--set {item}: write it as key=value with a dotted key, e.g. --set sampler.steps=20")
        table: Any = _value(value)
        for key in reversed(keys):
            table = {key: table}
        tables = merged(tables, table)
    return tables


def _value(text: str) -> Any:
    """A value in TOML syntax; anything else is a string as it stands."""
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    return tables["value"] if len(tables) == 1 else text
