"""A resolved run: its options, the modalities with part settings applied, and its flows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core.config.overrides import with_overrides
from core.config.preset import Phase
from core.config.run_config import RunConfig
from core.contract.modality import Modality, Parts
from core.errors import UserError
from core.flow.grammar import Flow, neighbours, parse_flow
from core.flow.patient_pools import visible
from core.flow.rounds import Round, WeightSet, plan_rounds, require_parts, trained_once, weight_sets
from core.types import Record


@dataclass(frozen=True)
class Flows:
    """The flows that the two phases with rounds go by; equal unless the recipe has a separate guide flow."""

    align: Flow
    guide: Flow

    @property
    def union(self) -> Flow:
        """All edges of both, each once: what autoencoders and denoisers see."""
        seen = {edge.ends for edge in self.align.edges}
        return Flow(self.align.edges + tuple(edge for edge in self.guide.edges if edge.ends not in seen))

    def of(self, phase: Phase) -> Flow:
        """The flow of a phase."""
        return {"align": self.align, "guide": self.guide}.get(phase) or self.union


@dataclass(frozen=True)
class Run:
    """What `start_run` gives: everything that a step needs to know."""

    config: RunConfig
    modalities: Mapping[str, Modality]
    flows: Flows

    @property
    def outputs(self) -> tuple[str, ...]:
        """The modalities that the run learns to make: those with a denoiser, as ``diffuse.outputs`` says."""
        centre = () if self.config.diffuse.outputs == "all" else (self.config.align.centre,)
        return tuple(
            name for name in self.flows.union.modalities if name not in centre and self.parts(name).denoiser is not None
        )

    def visible(self, record: Record) -> tuple[str, ...]:
        """The modalities of a study that training may see, in the order of the flows."""
        # Disjoint pools have one flow for both phases, so that the union has its rounds.
        return visible(record, self.flows.union, self.config.data.pools)

    def parts(self, modality: str) -> Parts:
        """The parts of a modality at the preset of the run."""
        return self.modalities[modality].parts(self.config.preset)

    def prompt_sources(self, modality: str) -> tuple[str, ...]:
        """The modalities that may prompt ``modality``: neighbours in the flow, as ``prompt.sources`` says."""
        sources = self.config.prompt.sources
        found = neighbours(self.flows.align if sources == "align_flow" else self.flows.union, modality)
        return tuple(name for name in found if name == self.config.align.centre) if sources == "centre" else found

    def rounds(self, phase: Literal["align", "guide"]) -> tuple[Round, ...]:
        """The rounds of a phase; none where the recipe does not train in that phase."""
        freeze = self.config.phases.freeze == "earlier_rounds"
        return plan_rounds(self.flows.of(phase), self.modalities, self.config.preset, phase, freeze=freeze)

    def once(self, phase: Literal["autoencoder", "diffuse"]) -> tuple[WeightSet, ...]:
        """The weight sets of the outputs that train outside of rounds."""
        sets = trained_once(self.flows.union, self.modalities, self.config.preset, phase)
        return tuple(weights for weights in sets if set(weights.owners) & set(self.outputs))

    def require_parts(self) -> None:
        """`UserError` where a phase of the run lacks a part."""
        views = self.config.align.visual_invariance
        for phase in self.config.phases.run:
            require_parts(self.flows.of(phase), self.modalities, self.config.preset, phase, views=views)


def start_run(
    config: RunConfig, modalities: Mapping[str, Modality], broken: Mapping[str, Exception] | None = None
) -> Run:
    """Apply the part settings, parse and check the flows. ``broken`` plugins explain unknown names."""
    changed = with_overrides(modalities, config.preset, config.parts)
    align = parse_flow(config.flow.of("align"), changed, config.aliases, broken)
    same = config.flow.of("guide") == config.flow.of("align")
    guide = align if same else parse_flow(config.flow.of("guide"), changed, config.aliases, broken)
    if config.data.pools == "disjoint" and [edge.ends for edge in align.edges] != [edge.ends for edge in guide.edges]:
        raise UserError(
            f"data.pools = 'disjoint' deals one pool of patients per round and needs one flow for both phases, found"
            f" align '{align}' and guide '{guide}'; give one flow, or set data.pools = 'all'"
        )
    run = Run(config, changed, Flows(align, guide))
    weight_sets(run.flows.union.modalities, changed, config.preset)
    return run
