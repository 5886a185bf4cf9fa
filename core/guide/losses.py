"""The terms of phase ``guide``: cross-guidance, contrast of contexts, and their self-reconstruction (E13, E14)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from core.align.losses import info_nce
from core.contract.modality import Denoiser
from core.diffuse.objective import Diffusion, noised
from core.engine.distributed import BatchShard
from core.guide.context_encoder import ContextEncoder
from core.types import Conditioning, Context


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


def noisy_rows(noisy: Noisy, rows: Tensor | slice) -> Noisy:
    """Return the chosen rows (int ``row``, or a slice) of a flow at its levels."""
    return Noisy(latent=noisy.latent[rows], noise=noisy.noise[rows], level=noisy.level[rows], clean=noisy.clean[rows])


def flow_rows(flow: FlowState, rows: Tensor | slice) -> FlowState:
    """Return the chosen studies (int ``row``, or a slice) of a flow, with their prompts."""
    return replace(flow, latent=flow.latent[rows], conditioning=flow.conditioning[rows])


def at_level(z: Tensor, level: Tensor, clean: Tensor, generator: Generator) -> Noisy:
    """Return the latent with drawn noise at its level, unchanged where ``clean`` (method E9, F3)."""
    noise = torch.randn(z.shape, generator=generator).to(z)
    level, clean = level.to(z.device), clean.to(z.device)
    mixed = torch.where(clean.view(-1, *[1] * (z.ndim - 1)), z, noised(z, level, noise))
    return Noisy(latent=mixed, noise=noise, level=level, clean=clean)


def cross_guidance_mse(receiver: FlowState, noisy: Noisy, context: Context | None) -> Tensor:
    """Return ``||eps - eps_theta(z_A, level, c, V_B([z_B, f_B]))||^2`` (method E13; MedM2G Eq. 6, MedCoDi-M Eq. 3).

    For another objective, its target takes the place of the noise (method E10).
    ``batch``: the mean per study, so that partners can be compared study by study (method F1).
    """
    predicted = receiver.denoiser(noisy.latent, noisy.level, replace(receiver.conditioning, context=context))
    return receiver.diffusion.errors(receiver.latent, noisy.noise, noisy.level, predicted)


@torch.no_grad()
def clean_estimate(receiver: FlowState, noisy: Noisy, context: Context | None) -> Tensor:
    """Return the model's clean estimate of a flow, ``batch channel *space``; where given, the latent (method F9)."""
    predicted = receiver.denoiser(noisy.latent, noisy.level, replace(receiver.conditioning, context=context)).float()
    estimate = receiver.diffusion.parameterisation.to_clean(noisy.latent, predicted, noisy.level)
    return torch.where(noisy.clean.view(-1, *[1] * (predicted.ndim - 1)), receiver.latent, estimate)


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
        wanted = context_encoder.patches.cut(latent)
        tokens = context_encoder.latent_tokens(context).reshape(*wanted.shape[:2], -1)
        return (self.heads[name](tokens).float() - wanted.float()).square().flatten(1).mean(1)


def _head(context_encoder: ContextEncoder) -> nn.Linear:
    """Return a layer that reads a vector from all its tokens together, a grid from each token alone."""
    patches = context_encoder.patches
    return nn.Linear(patches.tokens_per_patch * context_encoder.width, patches.width(context_encoder.shape[0]))
