"""Apply settings of parts: ``--set ct.autoencoder.channels=8`` and ``[parts.ct.autoencoder]``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from core.config.registry import DataSource
from core.config.toml import Table
from core.contract.modality import Modality, PartConfig, Parts, Shared
from core.errors import UserError, format_validation_error, unknown_name

PartOverrides = dict[str, dict[str, dict[str, Any]]]


def with_overrides(modalities: Mapping[str, Modality], preset: str, settings: PartOverrides) -> dict[str, Modality]:
    """Return the modalities with fields of their parts replaced at one preset.

    A `Shared` part changes for all its owners. `UserError` lists every unknown name and wrong value with its path.
    """
    if not settings:
        return dict(modalities)
    for modality in settings:
        if modality not in modalities:
            raise unknown_name("modality", modality, modalities, adjective="installed")
    changed = _changed(modalities, preset, settings)
    return {
        name: replace(modality, presets={**modality.presets, preset: _swapped(name, modality.parts(preset), changed)})
        if preset in modality.presets
        else modality
        for name, modality in modalities.items()
    }


def readers_in(
    source: DataSource, modalities: Mapping[str, Modality], preset: str, wanted: Collection[str]
) -> dict[str, PartConfig]:
    """Return the readers that a data set sets for the files of the ``wanted`` modalities."""
    for name in source.entry.reader:
        if name not in modalities:
            problem = unknown_name("modality", name, modalities, adjective="installed")
            raise UserError(f"datasets.{source.name}.reader: {problem}")
    used = {name: table for name, table in source.entry.reader.items() if name in wanted}
    try:
        changed = with_overrides(modalities, preset, {name: {"reader": dict(table)} for name, table in used.items()})
    except UserError as error:
        raise UserError(f"datasets.{source.name}.reader: {error}") from error
    readers = {name: changed[name].parts(preset).reader for name in used}
    return {name: reader for name, reader in readers.items() if reader is not None}


def _changed(modalities: Mapping[str, Modality], preset: str, settings: PartOverrides) -> dict[str, PartConfig]:
    """Return weight set to its new config."""
    old = {name: _configs(modalities[name], preset, tables) for name, tables in settings.items()}
    values = {
        name: {part: _values(config, settings[name][part]) for part, config in configs.items()}
        for name, configs in old.items()
    }
    model = _model({name: _model({part: type(config) for part, config in old[name].items()}) for name in old})
    try:
        new = model.model_validate(values)
    except ValidationError as error:
        raise format_validation_error(error, model, "part settings") from None
    changed: dict[str, PartConfig] = {}
    through: dict[str, str] = {}
    for name, part in [(owner, part) for owner in old for part in old[owner]]:
        key = modalities[name].parts(preset).weight_key(name, part)
        config = getattr(getattr(new, name), part)
        if changed.setdefault(key, config) != config:
            raise UserError(
                f"shared part '{key}' is set differently through '{through[key]}' and '{name}'; set it through one of"
                " them, it changes for both"
            )
        through.setdefault(key, name)
    return changed


def _configs(modality: Modality, preset: str, tables: Mapping[str, Any]) -> dict[str, PartConfig]:
    """Return the present configs of the parts that are set."""
    declared = modality.parts(preset).declared()
    for part in tables:
        if part not in declared:
            raise unknown_name(
                f"part of modality '{modality.name}' at preset '{preset}'", part, declared, adjective="has"
            )
    return {part: config.config if isinstance(config := declared[part], Shared) else config for part in tables}


def _values(config: BaseModel, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field values of a config, replaced by those of a table; also in tables inside tables."""
    values = {name: getattr(config, name) for name in type(config).model_fields}
    for key, value in table.items():
        inner = values.get(key)
        values[key] = _values(inner, value) if isinstance(inner, BaseModel) and isinstance(value, Mapping) else value
    return values


def _model(fields: Mapping[str, type[BaseModel]]) -> type[Table]:
    """Return a table with these tables inside, so that a wrong value is reported with its whole path."""
    required: dict[str, Any] = {name: (model, ...) for name, model in fields.items()}
    return create_model("Settings", __base__=Table, **required)


def _swapped(modality: str, parts: Parts, changed: Mapping[str, PartConfig]) -> Parts:
    """Return the parts with changed configs, shared ones under the same key."""
    return replace(parts, **dict(_new_parts(modality, parts, changed)))


def _new_parts(
    modality: str, parts: Parts, changed: Mapping[str, PartConfig]
) -> Iterator[tuple[str, PartConfig | Shared]]:
    for part, old in parts.declared().items():
        key = parts.weight_key(modality, part)
        if key in changed:
            yield part, Shared(key, changed[key]) if isinstance(old, Shared) else changed[key]
