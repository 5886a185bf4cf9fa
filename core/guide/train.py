"""Phase ``guide``: one round in which denoisers learn to read the contexts of their partners (method E13-E15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from core.config.preset import Training, TrainingName
from core.config.prompt import PromptChoice
from core.config.recipe import GuideChoice
from core.data.studies import Studies
from core.diffuse.objective import Diffusion, draw_subset
from core.diffuse.study_prompts import StudyPrompts, draw_versions
from core.engine.distributed import BatchShard
from core.engine.loop import LossTerms, Metrics, Stage
from core.engine.rng import forked_rng, make_generator
from core.engine.trainer import Trainer
from core.flow.prompt_sources import guide_sources
from core.guide.context_encoder import ContextEncoder
from core.guide.draws import JOINS, draw_prompting
from core.guide.losses import BatchRows, ContextContrast, FlowState, SelfReconstructionHead
from core.guide.noisy_study import HiddenPartners, guide_losses

NUM_DRAWN_PROMPTS = 32  # whose tokens the adaptation tokens f start from (method E12)


@dataclass(frozen=True, kw_only=True)
class RoundModality:
    """A modality of a round.

    ``latents`` ``sample channel *space``, scaled, on the CPU, row by row those of the studies ``indices``. ``prompt``
    is the prompt encoder of the modality, which f may start from; ``encoders`` are those of its neighbours in the flow.
    All of them, the denoiser's base weights and the prompt ``assembly`` are frozen.
    """

    name: str
    indices: Sequence[int]
    latents: Tensor
    denoiser: Any
    context_encoder: ContextEncoder
    assembly: Any
    prompt: Any
    encoders: Mapping[str, Any]

    @cached_property
    def row_of(self) -> Mapping[int, int]:
        """Return the row of ``latents`` by study index."""
        return {index: row for row, index in enumerate(self.indices)}


@dataclass(frozen=True, kw_only=True)
class GuideRound:
    """The parts of a round. ``trained``: modules by weight set; all else is frozen.

    ``pairs`` are those that the round may couple. ``prompt``: how whole studies are prompted. ``phase`` and ``name``
    are those of the stage.
    """

    name: str
    members: Mapping[str, RoundModality]
    trained: Mapping[str, nn.Module]
    pairs: Sequence[tuple[str, str]]
    studies: Studies
    training: Training
    choice: GuideChoice
    prompt: PromptChoice | None = None
    diffusion: Diffusion = field(default_factory=Diffusion)
    phase: TrainingName = "guide"


def train_guide_round(trainer: Trainer, guide_round: GuideRound) -> list[tuple[str, str]]:
    """Train what is new in a round, and return the pairs it was trained on (method E13, E15).

    Its pairs take turns, each on studies that hold both, or with ``choice.studies = "whole"`` every step draws a study
    and denoises what it holds (method F9). Pairs without a study are left out. The moving average stays in what was
    trained.
    """
    _freeze_all_but_trained(guide_round)
    choice, training = guide_round.choice, guide_round.training
    contrast = ContextContrast() if choice.contrast else None
    head = _new_head(trainer, guide_round) if choice.description else None
    only_here = {"contrast": contrast, "description": head}
    step = _Step(trainer, guide_round, contrast, head)
    trainer.run(
        Stage(
            phase=guide_round.phase,
            name=guide_round.name,
            modules={**guide_round.trained, **{key: module for key, module in only_here.items() if module is not None}},
            losses=step.losses,
            training=training,
            steps=step.num_steps,
            learning_rate=training.learning_rate,
            whole=contrast is not None,
        )
    )
    return step.pairs


def learned_pairs(guide_round: GuideRound) -> list[tuple[str, str]]:
    """Return the pairs of a round that some study holds, and of which some module is trained."""
    new = {id(parameter) for module in guide_round.trained.values() for parameter in module.parameters()}

    def trains(pair: tuple[str, str]) -> bool:
        members = [guide_round.members[name] for name in pair]
        parts = [part for member in members for part in (member.denoiser, member.context_encoder)]
        return any(id(parameter) in new for part in parts for parameter in part.parameters())

    return [pair for pair in guide_round.pairs if guide_round.studies.indices_with(*pair) and trains(pair)]


def start_adaptation(member: RoundModality, studies: Studies, trainer: Trainer) -> None:
    """Start the adaptation tokens f of a new context encoder at prompt tokens of its modality (method E12)."""
    adaptation, draws = member.context_encoder.f_B, make_generator(trainer.seed, "guide", "stand-in", member.name)
    if adaptation is None or member.prompt is None:
        return
    chosen = torch.randint(0, len(member.indices), (NUM_DRAWN_PROMPTS,), generator=draws).tolist()
    batch = trainer.compute.to_device(studies.batch(member.name, [member.indices[row] for row in chosen]))
    with torch.no_grad():
        adaptation.draw_from(member.prompt(batch), draws)


def draw_guide_prompt(
    sources: Sequence[str], batch: int, generator: Generator, null: float
) -> tuple[tuple[str, ...], Tensor]:
    """Draw a subset of ``sources`` and the rows (bool ``batch``) that get the null prompt instead (method E6c).

    Each row is null with probability ``null``, and all are where no source is left.
    """
    if not sources:
        return (), torch.ones(batch, dtype=torch.bool)
    subset = draw_subset(sources, generator)
    return subset, torch.rand(batch, generator=generator) < null


def _new_head(trainer: Trainer, guide_round: GuideRound) -> SelfReconstructionHead:
    """Return fresh heads for the context encoders that this round trains."""
    trained = {id(module) for module in guide_round.trained.values()}
    encoders = {name: member.context_encoder for name, member in guide_round.members.items()}
    with forked_rng(trainer.seed, "guide", "description", guide_round.name):
        return SelfReconstructionHead({name: encoder for name, encoder in encoders.items() if id(encoder) in trained})


def _freeze_all_but_trained(guide_round: GuideRound) -> None:
    """Require a gradient of what the round trains, and of nothing else (method E15)."""
    for member in guide_round.members.values():
        parts = (member.denoiser, member.context_encoder, member.assembly, member.prompt, *member.encoders.values())
        for part in parts:
            if part is not None:
                part.requires_grad_(False).eval()
    for module in guide_round.trained.values():
        module.requires_grad_(True)


class _Step:
    """The losses of a round: everything is drawn for the whole batch, and the rows of the shard are computed."""

    def __init__(
        self,
        trainer: Trainer,
        guide_round: GuideRound,
        contrast: ContextContrast | None,
        head: SelfReconstructionHead | None,
    ) -> None:
        self.trainer, self.guide_round, self.compute = trainer, guide_round, trainer.compute
        self.contrast, self.head, self.studies = contrast, head, guide_round.studies
        self.batch, self.whole = guide_round.training.batch, guide_round.choice.studies == "whole"
        self.indices = {pair: self.studies.indices_with(*pair) for pair in guide_round.pairs}
        self.pairs = learned_pairs(guide_round)
        if not self.pairs:
            self.studies.require_indices_with(*guide_round.pairs[0])
        self._used = sorted({index for pair in self.pairs for index in self.indices[pair]})
        self._eligible: dict[tuple[str, ...], list[int]] = {}
        self._prompts = self._encode_prompts()

    @property
    def num_steps(self) -> int:
        """The steps of the round: those of each pair, or where studies are whole those of the round."""
        training = self.guide_round.training
        if self.whole:
            return training.num_steps(len(self._used))
        return sum(training.num_steps(len(self.indices[pair])) for pair in self.pairs)

    @property
    def _sentence_dropout(self) -> float:
        """The probability that a text prompts a whole study with some of its sentences only (method E6d)."""
        return 0.0 if self.guide_round.prompt is None or not self.whole else self.guide_round.prompt.sentence_dropout

    def _encode_prompts(self) -> dict[str, StudyPrompts]:
        """Encode once the prompts of every source that may prompt a flow of this round."""
        members = self.guide_round.members.values()
        encoders = {name: encoder for member in members for name, encoder in member.encoders.items()}
        visible = self.studies.visible
        return {
            name: StudyPrompts(
                encoder,
                name,
                [index for index in self._used if name in visible[index]],
                self.studies,
                self.compute,
                shortened=self._sentence_dropout > 0,
                seed=self.trainer.seed,
            )
            for name, encoder in encoders.items()
        }

    def losses(self, step: int, shard: BatchShard) -> tuple[LossTerms, Metrics]:
        """Return the terms of one step: cross-guidance, contrast, self-reconstruction (E13, E14)."""
        choice = self.guide_round.choice
        draws = make_generator(self.trainer.seed, self.guide_round.phase, self.guide_round.name, step)
        names, first = self._draw_flows(step, draws)
        prompts, hidden = self._draw_prompts(names, first, draws)
        indices = self._draw_studies((*names, *(name for sources, _ in prompts.values() for name in sources)), draws)
        rows = shard.rows(self.batch)
        alone = {name: self._draw_pooled_only(draws) for name in names}
        versions = draw_versions(self.batch, self._sentence_dropout, draws)
        flows = {
            name: self._state(name, sources, indices[rows], versions[rows], null[rows], alone[name], rows)
            for name, (sources, null) in prompts.items()
        }
        batch_rows = BatchRows(
            size=self.batch, shard=shard, gather=self.compute.all_gather, equal=self._equal(names, indices)
        )
        return guide_losses(flows, draws, choice, self.contrast, batch_rows, self.head, hidden), {}

    def _draw_flows(self, step: int, draws: Generator) -> tuple[tuple[str, ...], int]:
        """Return the modalities that this step denoises together, and a drawn study that holds them."""
        if not self.whole:
            pair = self.pairs[step % len(self.pairs)]
            return pair, self.indices[pair][int(torch.randint(0, len(self.indices[pair]), (1,), generator=draws))]
        first = self._used[int(torch.randint(0, len(self._used), (1,), generator=draws))]
        visible = self.studies.visible[first]
        return tuple(name for name in self.guide_round.members if name in visible), first

    def _equal(self, names: Sequence[str], indices: Sequence[int]) -> Tensor:
        """Return bool ``batch batch``: studies with the same text, and a study that was drawn twice."""
        index = torch.tensor(list(indices))
        return self.compute.to_device(self.studies.same_text_mask(names, indices) | (index[:, None] == index))

    def _draw_prompts(
        self, names: Sequence[str], first: int, draws: Generator
    ) -> tuple[dict[str, tuple[tuple[str, ...], Tensor]], HiddenPartners | None]:
        """Draw the prompt sources of each flow and its rows (bool ``batch``) with a null prompt (method E6c, F9).

        In pairs, what takes part prompts nobody. In whole studies some modalities prompt in some of the rows, which are
        returned too: there they are nobody's partner.
        """
        members, null = self.guide_round.members, self.guide_round.choice.null_prompt
        visible = self.studies.visible[first]
        able = {name: [each for each in members[name].encoders if each in visible] for name in names}
        if not self.whole:
            sources = {name: guide_sources(name, names, able[name]) for name in names}
            return {name: draw_guide_prompt(sources[name], self.batch, draws, null) for name in names}, None
        everyone = dict.fromkeys([*names, *(each for each_able in able.values() for each in each_able)])
        num = {each: sum(each in able[name] for name in names) for each in everyone}
        choice = self.guide_round.prompt
        sampling, drop = ("subsets", 0.0) if choice is None else (choice.sampling, choice.drop)
        prompting = draw_prompting(num, draws, {"single": 0.0, "all": 1.0}.get(sampling, JOINS))
        unprompted = torch.rand(self.batch, generator=draws) < null
        prompts = {}
        for name in names:
            dropped = torch.rand(self.batch, generator=draws) < drop
            sources = tuple(each for each in able[name] if each in prompting)
            prompts[name] = (sources, unprompted | dropped | (not sources))
        return prompts, HiddenPartners(prompting, ~unprompted)

    def _draw_pooled_only(self, draws: Generator) -> Tensor | None:
        """Draw the rows of a whole study's flow that get pooled vectors alone, bool ``batch`` (method E6b)."""
        share = 0.0 if self.guide_round.prompt is None or not self.whole else self.guide_round.prompt.pooled_only
        return torch.rand(self.batch, generator=draws) < share if share else None

    def _draw_studies(self, names: tuple[str, ...], draws: Generator) -> list[int]:
        """Draw the indices of studies that hold all of these modalities."""
        if names not in self._eligible:
            self._eligible[names] = self.studies.indices_with(*names)
        eligible, size = self._eligible[names], self.batch
        # A study twice in a batch would be a negative of itself in the contrast; too few studies are drawn again.
        rounds = [torch.randperm(len(eligible), generator=draws) for _ in range(-(-size // len(eligible)))]
        return [eligible[row] for row in torch.cat(rounds)[:size].tolist()]

    def _state(
        self,
        name: str,
        sources: Sequence[str],
        indices: Sequence[int],
        versions: Sequence[int],
        null: Tensor,
        alone: Tensor | None,
        rows: slice,
    ) -> FlowState:
        member, to_device = self.guide_round.members[name], self.compute.to_device
        with torch.no_grad():
            prompts = {source: self._prompts[source].prompts_of(indices, versions) for source in sources}
        return FlowState(
            latent=to_device(member.latents[[member.row_of[index] for index in indices]]),
            denoiser=member.denoiser,
            context_encoder=member.context_encoder,
            conditioning=member.assembly(prompts, to_device(null), None if alone is None else to_device(alone[rows])),
            diffusion=self.guide_round.diffusion,
        )
