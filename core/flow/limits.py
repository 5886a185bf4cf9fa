"""Find settings of a run that contradict each other, before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from core.config.preset import Phase
from core.config.registry import Registry
from core.config.run_config import RunConfig
from core.errors import MedWeaveWarning, UserError
from core.flow.grammar import Flow
from core.types import ENDS_IN_NOISE


def _diffuses(config: RunConfig) -> bool:
    return "diffuse" in config.phases.run


def _aligns(config: RunConfig) -> bool:
    return "align" in config.phases.run


# A phase continues from the weights that these have trained in the same run.
NEEDS: Mapping[Phase, tuple[Phase, ...]] = {"diffuse": ("autoencoder",), "guide": ("autoencoder", "diffuse")}


def require_consistency(config: RunConfig, registry: Registry, flow: Flow) -> None:
    """Raise `UserError` that lists the settings that contradict each other; ``flow``: all edges of the run."""
    faults = [*_missing_phases(config), *_conflicts(config), *_pair_entries(registry, flow)]
    if faults:
        raise UserError("; ".join(faults))
    if _diffuses(config) and (config.diffuse.objective, config.diffuse.schedule) == ("epsilon", "cosine"):
        message = (
            "diffuse.objective = 'epsilon' with diffuse.schedule = 'cosine': at its noisiest level an error of the"
            " predicted noise is one of the clean latent times 1800, and samples diverge; set diffuse.objective=v"
        )
        warnings.warn(MedWeaveWarning(message), stacklevel=2)
    if _diffuses(config) and not _aligns(config) and config.align.encoders == "trained":
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
    if "guide" in config.phases.run:
        yield from _guide_conflicts(config)
    if config.sampler.eta > 0 and config.sampler.solver != "ddim":
        yield (
            f"sampler.eta = {config.sampler.eta} needs the solver 'ddim', found '{config.sampler.solver}'; set"
            " sampler.eta=0, or sampler.solver=ddim"
        )
    if _aligns(config) and config.align.encoders == "given":
        yield (
            "align.encoders = 'given' leaves phase 'align' nothing to train; leave the phase out, or set align.encoders"
            " to 'trained'"
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


def _guide_conflicts(config: RunConfig) -> Iterator[str]:
    guide = config.guide
    if guide.context == "none":
        yield (
            "guide.context = 'none' leaves phase 'guide' nothing to train; leave the phase out, or set guide.context to"
            " 'pooled' or 'spatial'"
        )
    for name in ("guide", "joint"):
        training = getattr(config.training, name)
        if guide.contrast and training is not None and training.accumulate > 1:
            yield (
                f"training.{name}.accumulate = {training.accumulate}: with guide.contrast a whole batch is"
                " compared with itself and cannot accumulate; set it to 1, or guide.contrast to false"
            )
    if guide.description and guide.context == "pooled":
        yield (
            "guide.description = true: one pooled token cannot describe a grid; set guide.context to 'spatial', or"
            " guide.description to false"
        )


def _level_conflicts(config: RunConfig) -> Iterator[str]:
    """Yield conflicts between objective, noise schedule and sampler (method E9, E10, E16)."""
    chosen = config.diffuse
    if chosen.objective == "epsilon" and chosen.schedule in ENDS_IN_NOISE:
        yield (
            f"diffuse.schedule = '{chosen.schedule}' ends in pure noise (zero terminal SNR), which needs the objective"
            " 'v', 'clean' or 'rectified_flow', found 'epsilon'; set diffuse.objective to one of these, or"
            " diffuse.schedule to 'scaled_linear'"
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


def _default(config: RunConfig, key: str) -> Any:
    group, _, field = key.partition(".")
    return type(getattr(config, group)).model_fields[field].default
