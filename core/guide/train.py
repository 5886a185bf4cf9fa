"""Phase ``guide``: one round in which denoisers learn to listen to each other (METHOD E13-E15).

Which prompts a flow gets while it learns to listen (METHOD E6c).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from core.config.preset import Training
from core.config.recipe import GuideChoice
from core.data.studies import Studies
from core.diffuse.objective import draw_subset
from core.diffuse.prompts import StudyPrompts
from core.engine.distributed import BatchShard
from core.engine.loop import LossTerms, Metrics, Stage
from core.engine.rng import forked_rng, make_generator
from core.engine.trainer import Trainer
from core.guide.context_encoder import Environment
from core.guide.losses import Description, EnvironmentContrast, FlowState, Part, guide_losses


def guide_sources(target: str, partners: Collection[str], available: Sequence[str]) -> tuple[str, ...]:
    """The modalities that may prompt ``target``: neither itself nor one of its partners (METHOD E6c).

    A prompt from a partner would already say what the partner could tell, and the coupling would learn nothing.
    """
    return tuple(name for name in available if name != target and name not in partners)


def draw_guide_prompt(
    sources: Sequence[str], batch: int, generator: Generator, null: float
) -> tuple[tuple[str, ...], Tensor]:
    """A drawn subset of ``sources`` and the rows (bool ``batch``) that get the null prompt instead (METHOD E6c).

    Each row is null with probability ``null``, and all are where no source is left.
    """
    if not sources:
        return (), torch.ones(batch, dtype=torch.bool)
    subset = draw_subset(sources, generator)
    return subset, torch.rand(batch, generator=generator) < null


NUM_DRAWN_PROMPTS = 32  # whose tokens the stand-in f starts from (METHOD E12)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A modality of a round.

    ``latents`` ``sample channel *space``, scaled, on the CPU, row by row those of the studies ``places``. ``prompt`` is
    its own prompt encoder, which f may start from; ``encoders`` those of its neighbours in the flow. All of them, the
    denoiser's own weights and the prompt ``assembly`` are frozen.
    """

    name: str
    places: Sequence[int]
    latents: Tensor
    denoiser: Any
    environment: Environment
    assembly: Any
    prompt: Any
    encoders: Mapping[str, Any]

    @cached_property
    def row_of(self) -> Mapping[int, int]:
        """Row of ``latents`` by place."""
        return {place: row for row, place in enumerate(self.places)}


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """What a round is made of. ``trained``: context encoders and attention by weight set; all else is frozen."""

    name: str
    members: Mapping[str, Member]
    trained: Mapping[str, nn.Module]
    pairs: Sequence[tuple[str, str]]
    studies: Studies
    training: Training
    choice: GuideChoice


def train_guide_round(trainer: Trainer, of: Guidance) -> list[tuple[str, str]]:
    """Train what is new in a round, and return the pairs that taught it (METHOD E13, E15).

    The pairs of the round take turns, each on studies that hold both; those without a study are left out. The moving
    average stays in what was trained.
    """
    _freeze_all_but(of)
    contrast = EnvironmentContrast() if of.choice.contrast else None
    description = _new_description(trainer, of) if of.choice.description else None
    only_here = {"contrast": contrast, "description": description}
    step = _Step(trainer, of, contrast, description)
    trainer.run(
        Stage(
            phase="guide",
            name=of.name,
            modules={**of.trained, **{key: one for key, one in only_here.items() if one is not None}},
            losses=step.losses,
            training=of.training,
            steps=sum(of.training.num_steps(len(step.places[pair])) for pair in step.pairs),
            learning_rate=of.training.learning_rate,
            whole=contrast is not None,
        )
    )
    return step.pairs


def learned_pairs(of: Guidance) -> list[tuple[str, str]]:
    """The pairs of a round that some study holds, and in which something is new."""
    new = {id(parameter) for module in of.trained.values() for parameter in module.parameters()}

    def teaches(pair: tuple[str, str]) -> bool:
        parts = [part for name in pair for part in (of.members[name].denoiser, of.members[name].environment)]
        return any(id(parameter) in new for part in parts for parameter in part.parameters())

    return [pair for pair in of.pairs if of.studies.indices_with(*pair) and teaches(pair)]


def start_stand_in(member: Member, studies: Studies, trainer: Trainer) -> None:
    """Start f of a new context encoder at prompt tokens of its modality (METHOD E12)."""
    adaptation, draws = member.environment.f_B, make_generator(trainer.seed, "guide", "stand-in", member.name)
    if adaptation is None or member.prompt is None:
        return
    chosen = torch.randint(0, len(member.places), (NUM_DRAWN_PROMPTS,), generator=draws).tolist()
    batch = trainer.compute.to_device(studies.batch(member.name, [member.places[row] for row in chosen]))
    with torch.no_grad():
        adaptation.draw_from(member.prompt(batch), draws)


def _new_description(trainer: Trainer, of: Guidance) -> Description:
    """Fresh heads for the context encoders that this round trains."""
    trained = {id(module) for module in of.trained.values()}
    new = {name: one.environment for name, one in of.members.items() if id(one.environment) in trained}
    with forked_rng(trainer.seed, "guide", "description", of.name):
        return Description(new)


def _freeze_all_but(of: Guidance) -> None:
    """Only what the round trains requires a gradient (METHOD E15)."""
    for member in of.members.values():
        parts = (member.denoiser, member.environment, member.assembly, member.prompt, *member.encoders.values())
        for part in parts:
            if part is not None:
                part.requires_grad_(False).eval()
    for module in of.trained.values():
        module.requires_grad_(True)


class _Step:
    """The losses of a round: everything is drawn for the whole batch, and the rows of the share are computed."""

    def __init__(
        self, trainer: Trainer, of: Guidance, contrast: EnvironmentContrast | None, description: Description | None
    ) -> None:
        self.trainer, self.of, self.compute = trainer, of, trainer.compute
        self.contrast, self.description = contrast, description
        self.places = {pair: of.studies.indices_with(*pair) for pair in of.pairs}
        self.pairs = learned_pairs(of)
        if not self.pairs:
            of.studies.require_indices_with(*of.pairs[0])
        self._able: dict[tuple[str, ...], list[int]] = {}
        self._encoded = self._encoded_once()

    def _encoded_once(self) -> dict[str, StudyPrompts]:
        """The prompts of every source that may prompt a flow of this round."""
        studies, held = self.of.studies, {place for pair in self.pairs for place in self.places[pair]}
        encoders = {name: encoder for member in self.of.members.values() for name, encoder in member.encoders.items()}
        return {
            name: StudyPrompts(
                encoder, name, [place for place in held if name in studies.visible[place]], studies, self.compute
            )
            for name, encoder in encoders.items()
        }

    def losses(self, step: int, shard: BatchShard) -> tuple[LossTerms, Metrics]:
        """The terms of the pair whose turn it is: cross-condition, contrast, description (METHOD E13, E14)."""
        pair, size = self.pairs[step % len(self.pairs)], self.of.training.batch
        draws = make_generator(self.trainer.seed, "guide", self.of.name, step)
        first = self.places[pair][int(torch.randint(0, len(self.places[pair]), (1,), generator=draws))]
        asked = {name: self._prompted(name, partner, first, draws) for name, partner in (pair, pair[::-1])}
        places = self._drawn((*pair, *(source for sources, _ in asked.values() for source in sources)), draws)
        rows = shard.rows(size)
        flows = {name: self._state(name, sources, places[rows], null[rows]) for name, (sources, null) in asked.items()}
        part = Part(size=size, shard=shard, gathered=self.compute.all_gather, equal=self._equal(pair, places))
        return guide_losses(flows, [pair], draws, self.of.choice, self.contrast, part, self.description), {}

    def _equal(self, pair: tuple[str, str], places: Sequence[int]) -> Tensor:
        """Bool ``batch batch``: studies that say the same, and a study that was drawn twice."""
        place = torch.tensor(list(places))
        return self.compute.to_device(self.of.studies.same_text_mask(pair, places) | (place[:, None] == place))

    def _prompted(self, name: str, partner: str, first: int, draws: Generator) -> tuple[tuple[str, ...], Tensor]:
        """Who prompts a flow, of those that a drawn study has, and the rows whose prompt is null (METHOD E6c)."""
        available = [source for source in self.of.members[name].encoders if source in self.of.studies.visible[first]]
        sources = guide_sources(name, {partner}, available)
        return draw_guide_prompt(sources, self.of.training.batch, draws, self.of.choice.null_prompt)

    def _drawn(self, names: tuple[str, ...], draws: Generator) -> list[int]:
        """Places of studies that hold all of these modalities."""
        if names not in self._able:
            self._able[names] = self.of.studies.indices_with(*names)
        able, size = self._able[names], self.of.training.batch
        # A study twice in a batch would be a negative of itself in the contrast; too few studies are drawn again.
        rounds = [torch.randperm(len(able), generator=draws) for _ in range(-(-size // len(able)))]
        return [able[index] for index in torch.cat(rounds)[:size].tolist()]

    def _state(self, name: str, sources: Sequence[str], places: Sequence[int], null: Tensor) -> FlowState:
        member, placed = self.of.members[name], self.compute.to_device
        with torch.no_grad():
            prompts = {source: self._encoded[source].of(places) for source in sources}
            conditioning = member.assembly(prompts, placed(null))
        return FlowState(
            latent=placed(member.latents[[member.row_of[place] for place in places]]),
            denoiser=member.denoiser,
            environment=member.environment,
            conditioning=conditioning,
        )
