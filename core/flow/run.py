"""A resolved run: its options, the modalities with part settings applied, its flows, rounds and weight sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from core.config.installation import Installation
from core.config.overrides import readers_in, with_overrides
from core.config.preset import Phase
from core.config.recipe_parts import with_recipe
from core.config.registry import DataSource
from core.config.run_config import Flags, RunConfig
from core.contract.modality import Modality, PartConfig, Parts
from core.errors import UserError
from core.flow.grammar import Flow, parse_flow
from core.flow.limits import require_consistency
from core.flow.patient_pools import visible
from core.flow.prompt_sources import prompt_sources
from core.flow.rounds import (
    Round,
    RoundPhase,
    WeightSet,
    joint_round,
    plan_rounds,
    require_parts,
    trained_once,
    weight_sets,
)
from core.types import Record


def resolve_run(installation: Installation, flags: Flags) -> Run:
    """Return the run that the flags choose; nothing is scanned, built or written.

    `UserError` for a setting that is unknown, not supported, or does not go with the others, and for a wrong flow. One
    warning for each plugin that failed to load and is not needed.
    """
    registry, catalog = installation.registry, installation.catalog
    config = installation.resolve(flags)
    run = start_run(config, catalog.modalities, catalog.unusable)
    installation.warn_of_broken_plugins()  # the flow does not need them, or start_run would have stopped
    if not catalog.unusable:  # otherwise some installed names are not known
        registry.require_known_pairs(catalog.modalities)
    require_consistency(config, registry, run.flows.union)
    run.require_given_encoders()
    return run


def start_run(
    config: RunConfig, modalities: Mapping[str, Modality], broken: Mapping[str, Exception] | None = None
) -> Run:
    """Apply the part settings, and read the flows. ``broken`` plugins explain unknown names.

    `UserError` for a wrong flow or part setting, and where a shared part is declared in two ways.
    """
    changed = with_overrides(with_recipe(modalities, config), config.preset, config.parts)
    align = parse_flow(config.flow.of("align"), changed, config.aliases, broken)
    same = config.flow.of("guide") == config.flow.of("align")
    guide = align if same else parse_flow(config.flow.of("guide"), changed, config.aliases, broken)
    if config.data.pools == "disjoint" and [edge.ends for edge in align.edges] != [edge.ends for edge in guide.edges]:
        raise UserError(
            f"data.pools = 'disjoint' makes one pool of patients per round and needs one flow for both phases, found"
            f" align '{align}' and guide '{guide}'; give one flow, or set data.pools = 'all'"
        )
    run = Run(config, changed, Flows(align, guide))
    _ = run.weight_sets  # shared parts that disagree are an error now, not in the middle of the run
    return run


@dataclass(frozen=True)
class Flows:
    """The flows of the two phases with rounds; equal unless the recipe has a separate guide flow."""

    align: Flow
    guide: Flow

    @property
    def union(self) -> Flow:
        """All edges of both, each once: the flow of autoencoders and denoisers."""
        seen = {edge.ends for edge in self.align.edges}
        return Flow(self.align.edges + tuple(edge for edge in self.guide.edges if edge.ends not in seen))

    def of(self, phase: Phase) -> Flow:
        """Return the flow of a phase."""
        return {"align": self.align, "guide": self.guide}.get(phase) or self.union


@dataclass(frozen=True)
class Run:
    """Everything that a step needs to know of its run. What follows from the options is computed once."""

    config: RunConfig
    modalities: Mapping[str, Modality]
    flows: Flows
    _readers: dict[str, dict[str, PartConfig]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def weight_sets(self) -> Mapping[str, WeightSet]:
        """Every weight set of the run by key, in the order of the flows."""
        return weight_sets(self.flows.union.modalities, self.modalities, self.config.preset)

    @cached_property
    def rounds(self) -> Mapping[RoundPhase, tuple[Round, ...]]:
        """The rounds of both phases that are trained in rounds, in the order of their flow."""
        phases: tuple[RoundPhase, ...] = ("align", "guide")
        return {phase: self._rounds(phase) for phase in phases}

    def _rounds(self, phase: RoundPhase) -> tuple[Round, ...]:
        flow, sets, freeze = self.flows.of(phase), self.weight_sets, self.config.phases.freeze
        denoisers = self.config.guide.trains == "all"
        planned = plan_rounds(flow, sets, phase, freeze=freeze != "none", denoisers=denoisers)
        if phase == "align" or freeze not in ("then_joint", "joint"):
            return planned
        coupled = [name for name in self.flows.guide.modalities if name in self.outputs]
        before = () if freeze == "joint" else planned
        return before + joint_round(coupled, sets, len(before) + 1, denoisers=denoisers)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The modalities that the run learns to generate: those with a denoiser, as ``diffuse.outputs`` says."""
        centre = () if self.config.diffuse.outputs == "all" else (self.config.align.centre,)
        return tuple(
            name for name in self.flows.union.modalities if name not in centre and self.parts(name).denoiser is not None
        )

    def trained_once(self, phase: Literal["autoencoder", "diffuse"]) -> tuple[WeightSet, ...]:
        """Return the weight sets of the outputs that train outside of rounds."""
        sets = trained_once(self.weight_sets, phase)
        return tuple(weights for weights in sets if set(weights.owners) & set(self.outputs))

    def parts(self, modality: str) -> Parts:
        """Return the parts of a modality at the preset of the run."""
        return self.modalities[modality].parts(self.config.preset)

    def readers(self, source: DataSource) -> Mapping[str, PartConfig]:
        """Return the readers that a data set sets for its files, by modality; `UserError` names a wrong setting."""
        key = f"{source.name} {source.entry.reader}"
        if key not in self._readers:
            wanted = self.flows.union.modalities
            self._readers[key] = readers_in(source, self.modalities, self.config.preset, wanted)
        return self._readers[key]

    def prompt_sources(self, modality: str) -> tuple[str, ...]:
        """Return the modalities that may prompt ``modality``; see `core.flow.prompt_sources`."""
        flows, config = self.flows, self.config
        return prompt_sources(modality, config.prompt, config.align.centre, align=flows.align, union=flows.union)

    def visible(self, record: Record) -> tuple[str, ...]:
        """Return the modalities of a study that training may see, in the order of the flows."""
        # Disjoint pools have one flow for both phases, so that the union has its rounds.
        return visible(record, self.flows.union, self.config.data.pools)

    def given_encoders(self) -> dict[str, WeightSet]:
        """Return the prompt encoders that are given, by weight set: those that prompt an output (method section 0)."""
        if self.config.align.encoders == "trained":
            return {}
        prompting = {source for name in self.outputs for source in self.prompt_sources(name)}
        sets = self.weight_sets.items()
        return {key: weights for key, weights in sets if weights.part == "prompt" and prompting & set(weights.owners)}

    def require_given_encoders(self) -> None:
        """Raise `UserError` where a prompt encoder has to be given and no folder is named."""
        for key, weights in self.given_encoders().items():
            if getattr(weights.config, "init_from", None) is None:
                name = weights.owners[0]
                raise UserError(
                    f"align.encoders = 'given' needs a folder for '{key}': give --set {name}.prompt.init_from=FOLDER"
                    " with CLIP text encoders (such as those of Stable Diffusion XL), or with a run that trained one"
                    " (python -m core.train --recipe medm2g --phase align --run FOLDER)"
                )

    def require_parts(self) -> None:
        """Raise `UserError` where a phase of the run lacks a part."""
        augmented = self.config.align.visual_invariance
        for phase in self.config.phases.run:
            require_parts(self.flows.of(phase), self.modalities, self.config.preset, phase, augmented=augmented)
        if not self.config.autoencoder.train:
            self._require_given_autoencoders()

    def _require_given_autoencoders(self) -> None:
        """Raise `UserError` where an autoencoder of images is to stay as it is, and nothing gives its weights."""
        for weights in self.trained_once("autoencoder"):
            is_image = self.parts(weights.owners[0]).data.kind == "grid"
            if is_image and getattr(weights.config, "init_from", None) is None:
                raise UserError(
                    f"autoencoder.train = false: '{weights.key}' has no given weights to stay as they are; set"
                    f" {weights.owners[0]}.autoencoder.init_from to a local folder, or leave autoencoder.train out"
                )
