"""Find switches that training does not support yet, and settings that contradict each other.

A recipe has the switches of its paper; `UNSUPPORTED` lists those of which one value works so far.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.config.preset import Phase
from core.config.recipe import Recipe
from core.config.registry import Registry
from core.config.run_config import RunConfig
from core.errors import MedWeaveWarning, UserError
from core.flow.grammar import Flow
from core.types import ENDS_IN_NOISE


@dataclass(frozen=True)
class Limit:
    """A switch of which only one value works. ``applies``: whether the run uses it at all."""

    key: str
    works: Any
    applies: Callable[[RunConfig], bool] = lambda config: True


def _diffuses(config: RunConfig) -> bool:
    return "diffuse" in config.phases.run


def _aligns(config: RunConfig) -> bool:
    return "align" in config.phases.run


UNSUPPORTED = (
    Limit("prompt.form", "pooled_and_neighbour_tokens", _diffuses),
    Limit("prompt.null", "learned", _diffuses),
    Limit("align.encoders", "trained", _aligns),  # without the phase, encoders stay as they are given
)

# Switches that training does not read, and what to set instead.
NOT_READ = {"align.image_encoder": "the preset of a modality chooses its prompt encoder: set MODALITY.prompt.FIELD"}

# A phase continues from the weights that these have trained in the same run.
NEEDS: Mapping[Phase, tuple[Phase, ...]] = {"diffuse": ("autoencoder",), "guide": ("autoencoder", "diffuse")}


def apply_limits(config: RunConfig, shipped: Mapping[str, Recipe]) -> RunConfig:
    """Return the configuration as training supports it.

    A switch of a shipped recipe that is not supported gets the value that works, with one warning line. A value that
    the user has set is not changed: `UserError` names the switch, the value and the value that works.
    """
    values = [(limit, _value(config, limit.key)) for limit in UNSUPPORTED if limit.applies(config)]
    replaced = [(limit, value) for limit, value in values if value != limit.works]
    recipe = shipped.get(config.recipe)
    _require_read_settings(config, recipe)
    chosen = [(limit, value) for limit, value in replaced if recipe is None or _value(recipe, limit.key) != value]
    if chosen:
        raise UserError(
            f"{_current(chosen)}: this version of MedWeave trains with {_working(chosen)} only; leave it out, or set"
            " that"
        )
    if replaced:
        message = (
            f"recipe '{config.recipe}' has {_current(replaced)}, which this version of MedWeave does not do yet: it"
            f" trains with {_working(replaced)}"
        )
        warnings.warn(MedWeaveWarning(message), stacklevel=2)
    return _with(config, {limit.key: limit.works for limit, _ in replaced})


def _require_read_settings(config: RunConfig, recipe: Recipe | None) -> None:
    for key, instead in NOT_READ.items():
        value = _value(config, key)
        known = _default(config, key) if recipe is None else _value(recipe, key)
        if value != known:
            raise UserError(f"{key} = {_shown(value)} is not read; {instead}, and leave {key} out")


def require_consistency(config: RunConfig, registry: Registry, flow: Flow) -> None:
    """Raise `UserError` that lists the settings that contradict each other; ``flow``: all edges of the run."""
    faults = [*_missing_phases(config), *_conflicts(config), *_pair_entries(registry, flow)]
    if faults:
        raise UserError("; ".join(faults))
    if _diffuses(config) and not _aligns(config):
        message = (
            "phase 'align' is left out: the prompt encoders stay as they are built, and without given weights their"
            " prompts carry little information"
        )
        warnings.warn(MedWeaveWarning(message), stacklevel=2)


def _missing_phases(config: RunConfig) -> Iterator[str]:
    run = config.phases.run
    for phase in run:
        missing = [earlier for earlier in NEEDS.get(phase, ()) if earlier not in run]
        if missing:
            yield (
                f"phase '{phase}' continues from {' and '.join(missing)} of the same run, found phases"
                f" {', '.join(run)}; give --phase {','.join([*missing, *run])}"
            )


def _conflicts(config: RunConfig) -> Iterator[str]:
    if "guide" in config.phases.run and config.guide.context == "none":
        yield (
            "guide.context = 'none' leaves phase 'guide' nothing to train; leave the phase out, or set guide.context to"
            " 'pooled' or 'spatial'"
        )
    if config.sampler.eta > 0 and config.sampler.solver != "ddim":
        yield (
            f"sampler.eta = {config.sampler.eta} needs the solver 'ddim', found '{config.sampler.solver}'; set"
            " sampler.eta=0, or sampler.solver=ddim"
        )
    if "guide" in config.phases.run and config.guide.contrast and config.training.guide.accumulate > 1:
        yield (
            f"training.guide.accumulate = {config.training.guide.accumulate}: with guide.contrast a whole batch is"
            " compared with itself and cannot accumulate; set it to 1, or guide.contrast to false"
        )
    if "guide" in config.phases.run and config.guide.description and config.guide.context == "pooled":
        yield (
            "guide.description = true: one pooled token cannot describe a grid; set guide.context to 'spatial', or"
            " guide.description to false"
        )
    if _aligns(config) and config.training.align.accumulate > 1:
        yield (
            f"training.align.accumulate = {config.training.align.accumulate}: alignment compares a whole batch with"
            " itself and cannot accumulate; set it to 1"
        )
    if _aligns(config) and config.training.align.batch < 2:
        yield "training.align.batch = 1: a study needs another one to be compared with; set it to 2 or more"
    if _diffuses(config):
        yield from _level_conflicts(config)
    target, default = config.align.target_temperature, _default(config, "align.target_temperature")
    if config.align.equal_reports != "soft" and target != default:
        yield (
            f"align.target_temperature = {target} is used with align.equal_reports 'soft' only, found"
            f" '{config.align.equal_reports}'; set align.equal_reports=soft, or leave align.target_temperature out"
        )


def _level_conflicts(config: RunConfig) -> Iterator[str]:
    """Yield conflicts between objective, noise schedule and sampler (method E9, E10, E16)."""
    chosen = config.diffuse
    if chosen.objective == "epsilon" and chosen.schedule in ENDS_IN_NOISE:
        yield (
            f"diffuse.schedule = '{chosen.schedule}' ends in pure noise (zero terminal SNR), which needs the objective"
            " 'v', 'clean' or 'rectified_flow', found 'epsilon'; set diffuse.objective to one of these, or"
            " diffuse.schedule to 'scaled_linear' or 'cosine'"
        )
    if chosen.beta_end < chosen.beta_start:
        yield (
            f"diffuse.beta_end = {chosen.beta_end} is below diffuse.beta_start = {chosen.beta_start}; noise grows with"
            " the timestep: exchange them"
        )
    if config.sampler.steps > chosen.timesteps:
        yield (
            f"sampler.steps = {config.sampler.steps}: the schedule has {chosen.timesteps} noise levels; set"
            f" sampler.steps to {chosen.timesteps} or less, or raise diffuse.timesteps"
        )
    for field in ("density_location", "density_scale"):
        value = getattr(chosen, field)
        if chosen.density == "uniform" and value != _default(config, f"diffuse.{field}"):
            yield (
                f"diffuse.{field} = {value} is used with diffuse.density 'logit_normal' only, found 'uniform'; set"
                f" diffuse.density=logit_normal, or leave diffuse.{field} out"
            )


def _pair_entries(registry: Registry, flow: Flow) -> Iterator[str]:
    pairs = {frozenset(pair) for edge in flow.edges for pair in edge.pairs}
    for name, entry in registry.pairs.items():
        if frozenset(end.strip() for end in name.split("-")) in pairs and (entry.weight != 1 or entry.datasets):
            yield (
                f"[pairs] '{name}' weighs or restricts a pair of the flow, which this version of MedWeave does not do"
                " yet; take it out, and choose the data sets with --data"
            )


def _value(table: RunConfig | Recipe, key: str) -> Any:
    group, _, field = key.partition(".")
    return getattr(getattr(table, group), field)


def _default(config: RunConfig, key: str) -> Any:
    group, _, field = key.partition(".")
    return type(getattr(config, group)).model_fields[field].default


def _with(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with values at dotted keys."""
    for key, value in values.items():
        group, _, field = key.partition(".")
        config = config.model_copy(update={group: getattr(config, group).model_copy(update={field: value})})
    return config


def _current(limits: list[tuple[Limit, Any]]) -> str:
    return ", ".join(f"{limit.key} = {_shown(value)}" for limit, value in limits)


def _working(limits: list[tuple[Limit, Any]]) -> str:
    return ", ".join(f"{limit.key} = {_shown(limit.works)}" for limit, _ in limits)


def _shown(value: Any) -> str:
    """Return a value as TOML writes it."""
    return f"'{value}'" if isinstance(value, str) else str(value).lower()
