"""Errors that a user can correct: one line that says what was found, what is allowed and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails


class UserError(Exception):
    """Wrong input. Commands print it as one line on stderr and exit with code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class PluginError(UserError):
    """A plugin that cannot be used; names the plugin, its distribution and the cause."""


class PluginDisabledError(PluginError):
    """A plugin that is installed, and not among those that the registry enables."""


class MedWeaveWarning(UserWarning):
    """A warning that a command prints as one line, without file and line number."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'mri'?"``, or ``""`` where no choice is near."""
    close = get_close_matches(name, list(choices), n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else ""


def join_choices(choices: Iterable[str]) -> str:
    """Return the choices in one phrase, ``none`` where there are none."""
    return ", ".join(sorted(choices)) or "none"


def unknown_name(what: str, name: str, choices: Iterable[str], *, adjective: str = "known") -> UserError:
    """Return the error ``no modality 'mir' (installed: ct, mri); did you mean 'mri'?``."""
    choices = list(choices)
    return UserError(f"no {what} '{name}' ({adjective}: {join_choices(choices)}){nearest(name, choices)}")


def format_validation_error(error: ValidationError, model: type[BaseModel], source: str) -> UserError:
    """Return all faults of a wrong configuration in one line, each with its dotted path.

    An unknown key is shown with the keys that its table knows and the nearest of them.
    """
    return UserError(f"{source}: " + "; ".join(_fault(fault, model) for fault in error.errors()))


def _fault(fault: ErrorDetails, model: type[BaseModel]) -> str:
    *parents, key = [str(part) for part in fault["loc"]] or ["value"]
    path = ".".join([*parents, key])
    if fault["type"] == "extra_forbidden":
        known = _known_keys(model, parents)
        return f"unknown key '{path}' (known: {join_choices(known)}){nearest(key, known)}"
    value = "" if fault["type"] == "missing" else f", found {str(fault['input'])[:60]!r}"
    return f"{path}: {fault['msg'].removeprefix('Value error, ')}{value}"


def _known_keys(model: type[BaseModel], parents: Iterable[str]) -> list[str]:
    """Return the field names of the table that ``parents`` leads to from ``model``."""
    for parent in parents:
        if parent in model.model_fields:
            inner = _model_in(model.model_fields[parent].annotation)
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the first pydantic model in an annotation such as ``dict[str, Recipe]`` or ``Recipe | None``."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
