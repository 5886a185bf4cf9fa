"""One step of phase ``guide``: the flows of a study at their levels, each denoised with the contexts of the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from core.config.recipe import GuideChoice
from core.guide.context_encoder import joined
from core.guide.draws import draw_readers, draw_study_levels, hide_prompting, without_prompting_readers
from core.guide.losses import (
    BatchRows,
    ContextContrast,
    FlowState,
    SelfReconstructionHead,
    at_level,
    clean_estimate,
    cross_guidance_mse,
    encode_context,
    flow_rows,
    noisy_rows,
    trainable,
)
from core.types import Context


class HiddenPartners(NamedTuple):
    """The modalities that prompt in some of the studies, and these (bool ``batch``): there nobody reads them (F9)."""

    names: Collection[str]
    rows: Tensor


def guide_losses(
    flows: Mapping[str, FlowState],
    generator: Generator,
    choice: GuideChoice,
    contrast: ContextContrast | None = None,
    batch_rows: BatchRows | None = None,
    self_reconstruction: SelfReconstructionHead | None = None,
    hidden: HiddenPartners | None = None,
) -> dict[str, Tensor]:
    """Return the named loss terms of one step on these flows of the same studies (method E13, E14, F9; MedM2G Eq. 6).

    All draws come from ``generator``, for the whole batch, and the rows of ``batch_rows`` are computed: the mean over
    all shards is the loss of the whole batch. Modules that require a gradient are trained; a flow that trains none is
    not denoised. Raises `ValueError` where ``choice.contrast`` is true and there is no ``contrast``; the same for
    ``choice.description`` and ``self_reconstruction`` (docs/decisions/0012).
    """
    if choice.contrast and contrast is None:
        raise ValueError("choice.contrast is true: give the ContextContrast of the round")
    if choice.description and self_reconstruction is None:
        raise ValueError("choice.description is true: give the SelfReconstructionHead of the round")
    rows = batch_rows or BatchRows(size=len(next(iter(flows.values())).latent))
    study = NoisyStudy(flows, rows, generator, choice, hidden)
    terms = study.cross_guidance_terms()
    if contrast is not None and choice.contrast:
        terms |= study.contrast_terms(contrast)
    if self_reconstruction is not None and choice.description:
        terms |= study.self_reconstruction_terms(self_reconstruction)
    return terms


class NoisyStudy:
    """The flows of a study at their levels, with their contexts: everything of a step that is drawn."""

    def __init__(
        self,
        flows: Mapping[str, FlowState],
        batch_rows: BatchRows,
        generator: Generator,
        choice: GuideChoice,
        hidden: HiddenPartners | None = None,
    ) -> None:
        self.names, self.flows = tuple(flows), tuple(flows.values())
        self.batch_rows, self.choice = batch_rows, choice
        size, shard = batch_rows.size, batch_rows.shard
        rows = shard.rows(size)
        self.levels = draw_study_levels(len(flows), size, generator, choice, self.flows[0].diffusion.draw_levels)
        with shard.noise(size):
            self.noisy = [
                at_level(flow.latent, level[rows], clean[rows], generator)
                for flow, (level, clean) in zip(self.flows, self.levels, strict=True)
            ]
        readers = draw_readers(len(flows), size, generator, choice.partner_drop)
        self.readers = (readers if hidden is None else hide_prompting(readers, self.names, *hidden))[:, :, rows]
        self.contexts = [encode_context(flow, noisy) for flow, noisy in zip(self.flows, self.noisy, strict=True)]
        estimated = float(torch.rand((), generator=generator)) < choice.generated_partners
        if estimated and hidden is not None:
            self.readers = without_prompting_readers(self.readers, self.names, hidden.names, hidden.rows[rows])
        self.partner_contexts = self._estimated_contexts(generator) if estimated else self.contexts

    def cross_guidance_terms(self) -> dict[str, Tensor]:
        """Denoise each flow with the contexts of the others that it reads (method E13, F4)."""
        terms = {}
        for to, flow in enumerate(self.flows):
            senders = [index for index in range(len(self.flows)) if index != to]
            if trainable(flow.denoiser, *(self.flows[index].context_encoder for index in senders)):
                given = "+".join(self.names[index] for index in senders)
                terms[f"{self.names[to]} given {given}"] = self._mean_error(to)
        return terms

    def _mean_error(self, to: int) -> Tensor:
        """Return the mean error over the studies in which a flow is not clean, as this shard's share.

        Clean rows have nothing to predict, so they are left out where any others are.
        """
        flow, noisy, context = self.flows[to], self.noisy[to], self._context_for(to, self.partner_contexts)
        clean = self.levels[to][1]
        num_noisy = (~clean).sum().clamp(min=1).to(noisy.latent.device)
        rows = (~noisy.clean).nonzero()[:, 0]
        if 0 < len(rows) < len(noisy.clean):
            errors = cross_guidance_mse(flow_rows(flow, rows), noisy_rows(noisy, rows), context[rows]).sum()
        else:
            errors = (cross_guidance_mse(flow, noisy, context) * ~noisy.clean).sum()
        return errors * self.batch_rows.shard.count / num_noisy

    def contrast_terms(self, contrast: ContextContrast) -> dict[str, Tensor]:
        """Contrast the pooled contexts of every two flows: those of one study resemble each other (method E14)."""
        gather, size = self.batch_rows.gather, self.batch_rows.size
        if not trainable(*(flow.context_encoder for flow in self.flows)):
            return {}
        pooled = [
            gather(flow.context_encoder.pooled(context), size)
            for flow, context in zip(self.flows, self.contexts, strict=True)
        ]
        terms = {}
        for a, b in combinations(range(len(self.flows)), 2):
            if trainable(self.flows[a].context_encoder, self.flows[b].context_encoder):
                loss = contrast(pooled[a], pooled[b], self.batch_rows.equal)
                terms[f"contrast {self.names[a]}-{self.names[b]}"] = self.choice.contrast_weight * loss
        return terms

    def self_reconstruction_terms(self, head: SelfReconstructionHead) -> dict[str, Tensor]:
        """Reconstruct each latent from the context of its trained encoder (docs/decisions/0012)."""
        terms, scale = {}, self.choice.description_weight * self.batch_rows.shard.count / self.batch_rows.size
        for name, flow, context in zip(self.names, self.flows, self.contexts, strict=True):
            if trainable(flow.context_encoder):
                errors = head(name, flow.context_encoder, context, flow.latent)
                terms[f"{name} self-reconstruction"] = scale * errors.sum()
        return terms

    def _context_for(self, receiver: int, contexts: Sequence[Context]) -> Context:
        """Return what a flow reads: the contexts of the others, those that it does not read as absent."""
        senders = [index for index in range(len(self.flows)) if index != receiver]
        encoders = [self.flows[index].context_encoder for index in senders]
        read = self.readers[receiver]
        return joined([encoder.readable(contexts[i], read[i]) for i, encoder in zip(senders, encoders, strict=True)])

    def _estimated_contexts(self, generator: Generator) -> list[Context]:
        """Return the contexts of the model's clean estimates, noised anew, as sampling will show them (method F9)."""
        size, shard = self.batch_rows.size, self.batch_rows.shard
        contexts = []
        for index, (flow, noisy) in enumerate(zip(self.flows, self.noisy, strict=True)):
            estimate = clean_estimate(flow, noisy, self._context_for(index, self.contexts))
            with shard.noise(size):
                contexts.append(encode_context(flow, at_level(estimate, noisy.level, noisy.clean, generator)))
        return contexts
