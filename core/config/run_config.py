"""Resolve the options of a run: preset < recipe (its sampler below the preset's) < run file < flags < ``--set``.

The result is written to the run folder and repeats the run: it has every switch and every size that was used.

Rules for the flow: a layer that gives ``flow`` or ``flow.main`` (as ``--flow`` does) replaces the flow of both phases,
also where the recipe has a separate guide flow; ``flow.align`` and ``flow.guide`` next to it set one phase alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, ValidationError

from core.config.autoencoder import AutoencoderChoice
from core.config.overrides import PartOverrides
from core.config.preset import PHASES, OtherTraining, Preset, TrainingName
from core.config.recipe import (
    AlignChoice,
    DataChoice,
    DiffuseChoice,
    FlowChoice,
    GuideChoice,
    PhaseChoice,
    PromptChoice,
    SamplerChoice,
)
from core.config.registry import Registry
from core.config.sampler import DEFAULT, expanded_sampler
from core.config.toml import Table, merged, read_toml
from core.errors import UserError, format_validation_error, join_choices, nearest, unknown_name

Layer = tuple[str, dict[str, Any]]
COMMAND_LINE = "command line"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The options of the command line; ``None`` or empty where it gives none."""

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
    extended: bool = False


def layers_of(flags: Flags) -> list[Layer]:
    """Return run file, flags and ``--set``, lowest first."""
    layers = [(f"--config {flags.config}", read_toml(flags.config))] if flags.config else []
    return [*layers, (COMMAND_LINE, _from_flags(flags)), ("--set", _from_sets(flags.set))]


def _from_flags(flags: Flags) -> dict[str, Any]:
    """Return the flags as tables."""
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
        given["training"] = {phase: _steps(flags.steps) for phase in PHASES}
    return given


def _steps(number: int) -> dict[str, int]:
    return {"steps": number, "steps_tokens": number, "epochs": 0}


def _with_joint_steps(given: Mapping[str, Any], below: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let the steps of every phase be those of the joint round too, where the recipe gives it a training."""
    training = given.get("training")
    if not training or "joint" not in below["training"]:
        return given
    return merged(given, {"training": {"joint": training["guide"]}})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _from_sets(sets: Sequence[str]) -> dict[str, Any]:
    """Return ``key.key=value`` items as tables; a later item wins."""
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
    """Return a value in TOML syntax; anything else is a string as it stands."""
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    return tables["value"] if len(tables) == 1 else text


SWITCHES = ("flow", "phases", "autoencoder", "align", "prompt", "diffuse", "guide", "sampler", "data")


class RunConfig(Table):
    """Everything that decides a run, resolved. ``parts``: modality, part, then fields of its config.

    ``aliases`` are included, so that the file means the same with another registry.
    """

    recipe: str
    preset: str
    seed: int = Field(default=0, ge=0)
    device: str = "auto"
    attention: Literal["auto", "sdpa", "xformers", "flash"] = "auto"
    run: Path
    flow: FlowChoice
    phases: PhaseChoice
    autoencoder: AutoencoderChoice = AutoencoderChoice()
    align: AlignChoice
    prompt: PromptChoice
    diffuse: DiffuseChoice
    guide: GuideChoice
    sampler: SamplerChoice
    data: DataChoice
    training: Preset
    aliases: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    parts: PartOverrides = Field(default_factory=dict)


def resolve(registry: Registry, modalities: Collection[str], flags: Flags | None = None) -> RunConfig:
    """Merge the layers and check each. `UserError` says what is wrong, and in which layer.

    ``modalities``: the installed names, which may stand first in a key of ``--set``.
    """
    flags = flags or Flags()
    layers = [(source, _normalised(table, source, modalities)) for source, table in layers_of(flags) if table]
    _require_plain_run_file(flags, layers)
    recipe = _chosen("recipe", layers, registry.default_recipe)
    preset = _chosen("preset", layers, registry.default_preset)
    tables = _base(registry, recipe, preset, modalities, extended=flags.extended)
    config = _validated(tables, f"recipe '{recipe}' at preset '{preset}'")
    for source, table in layers:
        tables = _laid_over(tables, _with_joint_steps(table, tables) if source == COMMAND_LINE else table)
        config = _validated(tables, source)
    for key, instead in (("extended", "give --extended, or set training.PHASE.steps"), ("sampler", "set sampler.KEY")):
        if getattr(config.training, key) is not None:
            raise UserError(f"training.{key}: only presets of the registry have one; {instead}")
    for name in config.data.names:
        if name not in registry.datasets:
            raise unknown_name("data set", name, registry.datasets)
    both = {"main": config.flow.main, "align": config.flow.of("align"), "guide": config.flow.of("guide")}
    sampler = expanded_sampler(config.sampler, modalities, config.aliases, config.align.centre)
    return config.model_copy(update={"flow": FlowChoice(**both), "sampler": sampler})


def _require_plain_run_file(flags: Flags, layers: Sequence[Layer]) -> None:
    """Raise `UserError` for a flag that stands for many settings, where the run file gives each of them already."""
    table = layers[0][1] if flags.config is not None and layers else {}
    fixed_by_file = {"recipe": "sampler" in table, "preset": "training" in table, "extended": "training" in table}
    given = [
        f"--{name}"
        for name, fixed in fixed_by_file.items()
        if fixed and getattr(flags, name) and getattr(flags, name) != table.get(name)
    ]
    if given:
        raise UserError(
            f"{' and '.join(given)} with --config {flags.config}: that run file spells out the switches and sizes that "
            "the flag stands for; leave one of the two out, or change single settings with --set"
        )


def to_toml(config: RunConfig) -> str:
    """Return the run file that repeats a run: ``resolve`` of it gives an equal `RunConfig`."""
    head = "# Resolved by MedWeave. Repeats the run: python -m core.train --config THIS_FILE\n"
    return head + tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _base(
    registry: Registry, recipe: str, preset: str, modalities: Collection[str], *, extended: bool
) -> dict[str, Any]:
    """Return the lowest layers: sizes of the preset with the published settings for it, then the switches."""
    method, sizes = registry.recipe(recipe), registry.preset(preset)
    training = sizes.model_dump(exclude_none=True, exclude={"extended", "sampler"})
    _lay_over_training(training, method.train.get(preset, {}))
    if extended and sizes.extended is None:
        able = [name for name, other in registry.presets.items() if other.extended is not None]
        raise UserError(
            f"--extended: preset '{preset}' has no extended training (these have: {join_choices(able)}); leave it out,"
            f" or write one as presets.{preset}.extended in the registry"
        )
    if extended and sizes.extended is not None:
        training = merged(training, sizes.extended.model_dump(exclude_none=True))
        _lay_over_training(training, method.extended.get(preset, {}))
    switches = {key: getattr(method, key).model_dump(exclude_none=True) for key in SWITCHES}
    if sizes.sampler is not None:
        known = {*modalities, *registry.aliases, DEFAULT, method.align.centre}
        tables = sizes.sampler.model_dump(exclude_none=True)
        switches["sampler"] |= {key: _of_known(value, known) for key, value in tables.items()}
    named = {"recipe": recipe, "preset": preset, "run": Path("runs") / f"{recipe}-{preset}"}
    return {**named, **switches, "training": training, "aliases": dict(registry.aliases)}


def _of_known(value: Any, known: Collection[str]) -> Any:
    """Return a table by modality without those that are not installed: a preset names what it was tried on."""
    return {name: number for name, number in value.items() if name in known} if isinstance(value, Mapping) else value


def _lay_over_training(training: dict[str, Any], values: Mapping[TrainingName, OtherTraining]) -> None:
    """Lay a recipe's values for a preset over its training; the joint round begins as the others of `guide`."""
    for name, other in values.items():
        training.setdefault(name, dict(training["guide"]))
        training[name] |= other.model_dump(exclude_none=True)


def _normalised(table: Mapping[str, Any], source: str, modalities: Collection[str]) -> dict[str, Any]:
    """Return a layer with the settings of modalities under ``parts``, and a plain flow as ``flow.main``.

    No modality has the name of an option: discovery does not accept it.
    """
    options = list(RunConfig.model_fields)
    names = [key for key in table if key not in options]
    for name in names:
        if name not in modalities:
            known = f"options: {join_choices(options)}; modalities: {join_choices(modalities)}"
            raise UserError(f"{source}: unknown key '{name}' ({known}){nearest(name, [*options, *modalities])}")
    tables = {key: value for key, value in table.items() if key in options}
    if isinstance(tables.get("flow"), str):
        tables["flow"] = {"main": tables["flow"]}
    return merged(tables, {"parts": {name: table[name] for name in names}}) if names else tables


def _chosen(key: str, layers: Sequence[Layer], default: str) -> str:
    """Return the name of recipe or preset in the highest layer that gives one."""
    return str(next((table[key] for _, table in reversed(layers) if key in table), default))


def _laid_over(below: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Put a layer on top; a new main flow replaces the separate flows below it."""
    flow = layer.get("flow")
    if isinstance(flow, Mapping) and "main" in flow:
        below = {key: value for key, value in below.items() if key != "flow"}
    return merged(below, layer)


def _validated(tables: Mapping[str, Any], source: str) -> RunConfig:
    try:
        return RunConfig.model_validate(tables)
    except ValidationError as error:
        raise format_validation_error(error, RunConfig, source) from None
