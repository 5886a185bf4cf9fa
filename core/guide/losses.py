"""The loss of one step of a guide round: each flow of a pair is denoised with the context of the other (method E13)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from core.align.losses import info_nce
from core.config.recipe import GuideChoice
from core.contract.modality import Denoiser
from core.diffuse.objective import Diffusion, noised
from core.engine.distributed import BatchShard
from core.guide.context_encoder import ContextEncoder, num_tokens, patch_width, patches
from core.types import Conditioning, Context

INDEPENDENT_SHARE = 0.5  # of the studies whose two levels differ; the others practise joint sampling (method F3)


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowState:
    """One modality of a batch: its scaled latent, denoiser, context encoder and prompt conditioning (method E6c).

    ``diffusion`` is that of the run: what the denoiser predicts, at which levels.
    """

    latent: Tensor
    denoiser: Denoiser
    context_encoder: ContextEncoder
    conditioning: Conditioning
    diffusion: Diffusion = field(default_factory=Diffusion)


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """Which rows of a batch of ``size`` the flows hold: those of ``shard``.

    ``gather(rows, size)`` joins the rows of all shards, with gradient. ``equal`` bool ``size size``: studies with the
    same text, or the same study twice, which are no negatives of each other.
    """

    size: int
    equal: Tensor | None = None
    shard: BatchShard = field(default_factory=BatchShard)
    gather: Callable[[Tensor, int], Tensor] = lambda rows, size: rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Noisy:
    """A flow at its noise levels: ``latent`` and ``noise`` ``batch channel *space``, ``level`` and ``clean`` ``batch``.

    Where ``clean``, the latent carries no noise and there is nothing to predict.
    """

    latent: Tensor
    noise: Tensor
    level: Tensor
    clean: Tensor


def guide_losses(
    flows: Mapping[str, FlowState],
    pairs: Iterable[tuple[str, str]],
    generator: Generator,
    choice: GuideChoice,
    contrast: ContextContrast | None = None,
    batch_rows: BatchRows | None = None,
    self_reconstruction: SelfReconstructionHead | None = None,
) -> dict[str, Tensor]:
    """Return the named loss terms of one step, for every pair both directions (method E13, E14; MedM2G Eq. 6).

    All draws come from ``generator``, for the whole batch, and the rows of ``batch_rows`` are computed: the mean over
    all shards is the loss of the whole batch. Modules that require a gradient are trained; a direction without any is
    left out. Raises `ValueError` where ``choice.contrast`` is true and there is no ``contrast``; the same for
    ``choice.description`` and ``self_reconstruction`` (docs/decisions/0012).
    """
    if choice.contrast and contrast is None:
        raise ValueError("choice.contrast is true: give the ContextContrast of the round")
    if choice.description and self_reconstruction is None:
        raise ValueError("choice.description is true: give the SelfReconstructionHead of the round")
    terms: dict[str, Tensor] = {}
    for a, b in pairs:
        rows = batch_rows or BatchRows(size=len(flows[a].latent))
        pair = NoisyPair((a, flows[a]), (b, flows[b]), rows, generator, choice)
        terms |= pair.cross_guidance_terms()
        if contrast is not None and choice.contrast:
            terms |= pair.contrast_term(contrast)
        if self_reconstruction is not None and choice.description:
            terms |= pair.self_reconstruction_terms(self_reconstruction)
    return terms


class NoisyPair:
    """The two flows of a pair at their levels, with their contexts: everything of a step that is drawn."""

    def __init__(
        self,
        first: tuple[str, FlowState],
        second: tuple[str, FlowState],
        batch_rows: BatchRows,
        generator: Generator,
        choice: GuideChoice,
    ) -> None:
        self.names, self.flows = (first[0], second[0]), (first[1], second[1])
        self.batch_rows, self.choice = batch_rows, choice
        size, shard = batch_rows.size, batch_rows.shard
        rows = shard.rows(size)
        self.levels = draw_pair_levels(size, generator, choice, self.flows[0].diffusion)
        with shard.noise(size):
            self.noisy = tuple(
                at_level(flow.latent, level[rows], clean[rows], generator)
                for flow, (level, clean) in zip(self.flows, self.levels, strict=True)
            )
        absent = (torch.rand(2, size, generator=generator) < choice.partner_drop)[:, rows]
        self.contexts = tuple(
            encode_context(flow, noisy, gone.to(flow.latent.device))
            for flow, noisy, gone in zip(self.flows, self.noisy, absent, strict=True)
        )

    def cross_guidance_terms(self) -> dict[str, Tensor]:
        """Denoise each flow with the context of the other (method E13)."""
        terms = {}
        for to, by in ((0, 1), (1, 0)):
            if trainable(self.flows[to].denoiser, self.flows[by].context_encoder):
                errors = cross_guidance_mse(self.flows[to], self.noisy[to], self.contexts[by])
                mean = _mean_noisy(errors, self.levels[to][1], self.batch_rows)
                terms[f"{self.names[to]} given {self.names[by]}"] = mean
        return terms

    def contrast_term(self, contrast: ContextContrast) -> dict[str, Tensor]:
        """Contrast the pooled contexts: those of one study resemble each other (method E14)."""
        if not trainable(*(flow.context_encoder for flow in self.flows)):
            return {}
        rows = (flow.context_encoder.pooled(context) for flow, context in zip(self.flows, self.contexts, strict=True))
        pooled = [self.batch_rows.gather(vectors, self.batch_rows.size) for vectors in rows]
        loss = contrast(pooled[0], pooled[1], self.batch_rows.equal)
        return {f"contrast {'-'.join(self.names)}": self.choice.contrast_weight * loss}

    def self_reconstruction_terms(self, head: SelfReconstructionHead) -> dict[str, Tensor]:
        """Reconstruct each latent from the context of its trained encoder (docs/decisions/0012)."""
        terms, scale = {}, self.choice.description_weight * self.batch_rows.shard.count / self.batch_rows.size
        for name, flow, context in zip(self.names, self.flows, self.contexts, strict=True):
            if trainable(flow.context_encoder):
                errors = head(name, flow.context_encoder, context, flow.latent)
                terms[f"{name} self-reconstruction, {'-'.join(self.names)}"] = scale * errors.sum()
        return terms


def _mean_noisy(errors: Tensor, clean: Tensor, batch_rows: BatchRows) -> Tensor:
    """Return the mean over the studies that are not ``clean`` (bool, of the whole batch), as this shard's share."""
    noisy = ~clean
    counted = noisy[batch_rows.shard.rows(batch_rows.size)].to(errors.device)
    return (errors * counted).sum() * batch_rows.shard.count / noisy.sum().clamp(min=1).to(errors.device)


def draw_pair_levels(
    batch: int, generator: Generator, choice: GuideChoice, diffusion: Diffusion
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Draw log-SNR (float32 ``batch``) and clean flag (bool ``batch``) of either flow of a pair (method F3).

    One level for both, or with ``levels = "independent"`` two for a share of the studies. With probability ``clean``
    one of the two flows, either with equal chance, is clean; never both.
    """
    first, other = diffusion.draw_levels(batch, generator), diffusion.draw_levels(batch, generator)
    apart, clean, which = torch.rand(3, batch, generator=generator)
    independent = apart < (INDEPENDENT_SHARE if choice.levels == "independent" else 0.0)
    is_clean, is_first = clean < choice.clean, which < 0.5
    return (first, is_clean & is_first), (torch.where(independent, other, first), is_clean & ~is_first)


def at_level(z: Tensor, level: Tensor, clean: Tensor, generator: Generator) -> Noisy:
    """Return the latent with drawn noise at its level, unchanged where ``clean`` (method E9, F3)."""
    noise = torch.randn(z.shape, generator=generator).to(z)
    level, clean = level.to(z.device), clean.to(z.device)
    mixed = torch.where(clean.view(-1, *[1] * (z.ndim - 1)), z, noised(z, level, noise))
    return Noisy(latent=mixed, noise=noise, level=level, clean=clean)


def cross_guidance_mse(receiver: FlowState, noisy: Noisy, context: Context | None) -> Tensor:
    """Return ``||eps - eps_theta(z_A, level, c, V_B([z_B, f_B]))||^2`` (method E13; MedM2G Eq. 6, MedCoDi-M Eq. 3).

    ``batch``: the mean per study, so that partners can be compared study by study (method F1).
    """
    predicted = receiver.denoiser(noisy.latent, noisy.level, replace(receiver.conditioning, context=context))
    return receiver.diffusion.errors(receiver.latent, noisy.noise, noisy.level, predicted)


def encode_context(sender: FlowState, noisy: Noisy, absent: Tensor | None = None) -> Context:
    """Return the context of a flow at its levels (method E13)."""
    return sender.context_encoder(noisy.latent, noisy.level, noisy.clean, absent)


def trainable(*parts: Any) -> bool:
    """Return whether any of these modules has a parameter that requires a gradient."""
    return any(p.requires_grad for part in parts if isinstance(part, nn.Module) for p in part.parameters())


class ContextContrast(nn.Module):
    """Symmetric InfoNCE between pooled V_A and V_B with a learnable temperature (method E14; CoDi_XR III-C)."""

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, v_a: Tensor, v_b: Tensor, equal: Tensor | None = None) -> Tensor:
        """``v_a`` and ``v_b`` ``batch width`` of unit norm, row ``i`` of both of one study; 0 below two studies.

        ``equal`` bool ``batch batch``: rows that are no negatives of each other (method E1).
        """
        if len(v_a) < 2:
            return v_a.new_zeros(())
        return info_nce(v_a, v_b, self.logit_scale, equal)


class SelfReconstructionHead(nn.Module):
    """Reconstructs the clean latent of a modality from its context tokens; training only (docs/decisions/0012).

    Rounds freeze what they trained (method E15). A context encoder that was trained only for its first partner would
    be of no use to a later one. The loss of this head preserves the content of the latent, whichever partner reads the
    context. One linear layer per modality, so that a partner's attention can read as much. Raises `ValueError` for an
    encoder in pooled form.
    """

    def __init__(self, context_encoders: Mapping[str, ContextEncoder]) -> None:
        super().__init__()
        for name, encoder in context_encoders.items():
            if encoder.form != "spatial":
                raise ValueError(f"{name}: a context of one token cannot reconstruct a grid")
        self.heads = nn.ModuleDict({name: _head(encoder) for name, encoder in context_encoders.items()})

    def forward(self, name: str, context_encoder: ContextEncoder, context: Context, latent: Tensor) -> Tensor:
        """Return the mean squared error per study, ``batch``, of the clean ``latent`` ``batch channel *space``."""
        wanted = patches(latent, context_encoder.space)
        tokens = context_encoder.latent_tokens(context).reshape(*wanted.shape[:2], -1)
        return (self.heads[name](tokens).float() - wanted.float()).square().flatten(1).mean(1)


def _head(context_encoder: ContextEncoder) -> nn.Linear:
    """Return a layer that reads a vector from all its tokens together, a grid from each token alone."""
    together = 1 if context_encoder.space else num_tokens(())
    space = context_encoder.space
    return nn.Linear(together * context_encoder.width, patch_width(context_encoder.shape[0], space))
