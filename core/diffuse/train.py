"""Phase ``diffuse``: train one denoiser on the latents of its modalities (method E5, E6, E10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from core.config.preset import Training
from core.config.recipe import PromptChoice
from core.data.studies import Studies
from core.diffuse.objective import Diffusion, draw_prompts, noised
from core.diffuse.study_prompts import StudyPrompts, draw_versions
from core.engine.distributed import BatchShard
from core.engine.loop import LossTerms, Metrics, Stage
from core.engine.rng import make_generator
from core.engine.trainer import Trainer
from core.errors import UserError
from core.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Target:
    """A modality that a denoiser learns to generate.

    ``latents`` ``sample channel *space``, scaled, on the CPU, row by row those of the studies ``indices``. A study
    without prompt, or whose modality may not be paired with another, is learned from under the null prompt.
    ``encoders``: frozen prompt encoders of the modalities that prompt this one in the flow; the target is not one.
    """

    name: str
    indices: Sequence[int]
    latents: Tensor
    assembly: Any
    encoders: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.name in self.encoders:
            raise ValueError(f"'{self.name}' would be prompted by its embedding")


def train_denoiser(
    trainer: Trainer,
    key: str,
    denoiser: Any,
    targets: Sequence[Target],
    studies: Studies,
    training: Training,
    *,
    prompt: PromptChoice,
    diffusion: Diffusion,
) -> list[list[float]]:
    """Train a denoiser on noisy scaled latents, conditioned on prompts that a study has.

    ``prompt``: how prompts are drawn and dropped; ``diffusion``: what is predicted at which noise levels. The targets
    of a shared denoiser take turns. Returns the losses of every target's steps; the moving average stays in the
    denoiser and the prompt assemblies.
    """
    kind = studies.parts[targets[0].name].data.kind
    for target in targets:
        for encoder in target.encoders.values():
            trainer.compute.to_device(encoder).requires_grad_(False).eval()
    steps = [_Step(trainer, denoiser, target, studies, training.batch_of(kind), prompt) for target in targets]

    def losses(step: int, shard: BatchShard) -> tuple[LossTerms, Metrics]:
        return steps[step % len(steps)].losses(step, shard, diffusion), {}

    totals = trainer.run(
        Stage(
            phase="diffuse",
            name=key,
            modules={key: denoiser, **{f"{target.name}.prompt_assembly": target.assembly for target in targets}},
            losses=losses,
            training=training,
            steps=training.num_steps(sum(len(target.indices) for target in targets), kind),
            learning_rate=training.learning_rate_of(kind),
            divided=kind != "tokens",
        )
    )
    return [totals[turn :: len(targets)] for turn in range(len(targets))]


class _Step:
    """The loss of one target: draws are made for the whole batch, and the rows of the shard are computed."""

    def __init__(
        self, trainer: Trainer, denoiser: Any, target: Target, studies: Studies, size: int, prompt: PromptChoice
    ) -> None:
        self.seed, self.to_device, self.prompt = trainer.seed, trainer.compute.to_device, prompt
        self.denoiser, self.target, self.studies, self.size = denoiser, target, studies, size
        # A study without any of the prompts is left out, unless no modality prompts this one.
        paired = [index for index in target.indices if target.name in studies.visible[index]]
        prompted = [index for index in paired if set(target.encoders) & set(studies.visible[index])]
        self._prompted = prompted if target.encoders else target.indices
        if not self._prompted:
            raise UserError(
                f"no study to train on holds {target.name} and one of its prompts ({', '.join(target.encoders)}): name"
                " data sets that do with --data, or change the flow"
            )
        self._rows_with: dict[tuple[str, ...], list[int]] = {}
        self._encoded = {
            source: StudyPrompts(
                encoder,
                source,
                [index for index in prompted if source in studies.visible[index]],
                studies,
                trainer.compute,
                shortened=prompt.sentence_dropout > 0,
                seed=trainer.seed,
            )
            for source, encoder in target.encoders.items()
        }

    def losses(self, step: int, shard: BatchShard, diffusion: Diffusion) -> dict[str, Tensor]:
        """Return the objective (method E10)."""
        prompt = self.prompt
        draws = make_generator(self.seed, "diffuse", self.target.name, step)
        sources, chosen = self._draw(draws, prompt.sampling)
        dropped, alone = torch.rand(2, self.size, generator=draws)
        dropped, alone = dropped < prompt.drop, alone < prompt.pooled_only
        level = diffusion.draw_levels(self.size, draws)
        unprompted = torch.randint(0, len(self.target.indices), (self.size,), generator=draws)
        z = self.target.latents[torch.where(dropped, unprompted, torch.tensor(chosen))]
        noise = torch.randn(z.shape, generator=draws)
        versions = draw_versions(self.size, prompt.sentence_dropout, draws)
        rows = shard.rows(self.size)
        z, level, noise, dropped, alone = (self.to_device(value[rows]) for value in (z, level, noise, dropped, alone))
        conditioning = self.target.assembly(self._prompts(sources, chosen[rows], versions[rows]), dropped, alone)
        predicted = self.denoiser(noised(z, level, noise), level, conditioning)
        return shard.weighted({"denoising": diffusion.loss(z, noise, level, predicted)}, self.size)

    def _draw(self, draws: Generator, sampling: str) -> tuple[tuple[str, ...], list[int]]:
        """Draw prompts that a study has (method E5), and with replacement rows of studies that have them too."""
        indices, visible = self.target.indices, self.studies.visible
        first = self._prompted[int(torch.randint(0, len(self._prompted), (1,), generator=draws))]
        available = [source for source in self.target.encoders if source in visible[first]]
        sources = draw_prompts(available, sampling, draws)
        if sources not in self._rows_with:
            needed = {self.target.name, *sources} if sources else set()
            self._rows_with[sources] = [row for row, index in enumerate(indices) if needed <= set(visible[index])]
        rows = self._rows_with[sources]
        return sources, [rows[number] for number in torch.randint(0, len(rows), (self.size,), generator=draws).tolist()]

    def _prompts(self, sources: Sequence[str], chosen: Sequence[int], versions: Sequence[int]) -> dict[str, Prompt]:
        indices = [self.target.indices[row] for row in chosen]
        return {source: self._encoded[source].prompts_of(indices, versions) for source in sources}
