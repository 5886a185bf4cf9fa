"""The loss of one step of a guide round: each flow of a pair is denoised with what the other tells (METHOD E13).

Environment contrast: the environments of one study resemble each other (METHOD E14).

Description: what a context encoder tells must hold its own modality (docs/decisions/0012).
"""

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
from core.diffuse.objective import draw_levels, noised
from core.engine.distributed import BatchShard
from core.guide.context_encoder import Environment, num_tokens, patch_width, patches
from core.types import Conditioning, Context


class EnvironmentContrast(nn.Module):
    """Symmetric InfoNCE between pooled V_A and V_B with a learnable temperature (METHOD E14; CoDi_XR III-C)."""

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, v_a: Tensor, v_b: Tensor, equal: Tensor | None = None) -> Tensor:
        """``v_a`` and ``v_b`` ``batch width`` of unit norm, row ``i`` of both of one study; 0 below two studies.

        ``equal`` bool ``batch batch``: rows that are no negatives of each other (METHOD E1).
        """
        if len(v_a) < 2:
            return v_a.new_zeros(())
        return info_nce(v_a, v_b, self.logit_scale, equal)


class Description(nn.Module):
    """Reads the clean latent of a modality off the tokens that it tells; training only (docs/decisions/0012).

    Rounds freeze what they trained (METHOD E15), so a context encoder that only ever helped its first partner has
    nothing to tell a later one. Asked to describe itself, it keeps what it knows, whoever listens. One linear layer
    per modality, so that a listener's attention can read as much. Raises `ValueError` for an encoder in pooled form.
    """

    def __init__(self, environments: Mapping[str, Environment]) -> None:
        super().__init__()
        for name, one in environments.items():
            if one.form != "spatial":
                raise ValueError(f"{name}: a context of one token cannot describe a grid")
        self.heads = nn.ModuleDict({name: _head(one) for name, one in environments.items()})

    def forward(self, name: str, environment: Environment, context: Context, latent: Tensor) -> Tensor:
        """Mean squared error per study, ``batch``, of the clean ``latent`` ``batch channel *space`` as read."""
        wanted = patches(latent, environment.space)
        told = environment.told(context).reshape(*wanted.shape[:2], -1)
        return (self.heads[name](told).float() - wanted.float()).square().flatten(1).mean(1)


def _head(environment: Environment) -> nn.Linear:
    """A vector is read off its tokens together, a grid token by token."""
    together = 1 if environment.space else num_tokens(())
    return nn.Linear(together * environment.width, patch_width(environment.shape[0], environment.space))


INDEPENDENT_SHARE = 0.5  # of the studies whose two levels differ; the others practise joint sampling (METHOD F3)


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowState:
    """One modality of a batch: its scaled latent, who denoises it, who tells of it, and its prompt (METHOD E6c)."""

    latent: Tensor
    denoiser: Denoiser
    environment: Environment
    conditioning: Conditioning


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which rows of a batch of ``size`` the flows hold: those of ``shard``.

    ``gathered(rows, size)`` joins the rows of all shares, with gradient. ``equal`` bool ``size size``: studies that say
    the same, or are the same, and are no negatives of each other.
    """

    size: int
    equal: Tensor | None = None
    shard: BatchShard = field(default_factory=BatchShard)
    gathered: Callable[[Tensor, int], Tensor] = lambda rows, size: rows


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
    contrast: EnvironmentContrast | None = None,
    part: Part | None = None,
    description: Description | None = None,
) -> dict[str, Tensor]:
    """The named loss terms of one step of a round, for every pair both directions (METHOD E13, E14; MedM2G Eq. 6).

    All draws come from ``generator``, for the whole batch, and the rows of ``part`` are computed: the mean over all
    parts is the loss of the whole batch. What may be trained is what requires a gradient: a direction in which nothing
    does is left out. Raises `ValueError` where ``choice.contrast`` is true and there is no ``contrast``; the same for
    ``description`` (docs/decisions/0012).
    """
    if choice.contrast and contrast is None:
        raise ValueError("choice.contrast is true: give the EnvironmentContrast of the round")
    if choice.description and description is None:
        raise ValueError("choice.description is true: give the Description of the round")
    terms: dict[str, Tensor] = {}
    for a, b in pairs:
        whole = part or Part(size=len(flows[a].latent))
        pair = _Noised((a, flows[a]), (b, flows[b]), whole, generator, choice)
        terms |= pair.cross_terms()
        if contrast is not None and choice.contrast:
            terms |= pair.contrast_term(contrast)
        if description is not None and choice.description:
            terms |= pair.description_terms(description)
    return terms


def draw_pair_levels(
    batch: int, generator: Generator, choice: GuideChoice
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Log-SNR (float32 ``batch``) and clean flag (bool ``batch``) of either flow of a pair (METHOD F3).

    One level for both, or with ``levels = "independent"`` two for a share of the studies. With probability ``clean``
    one of the two flows, either with equal chance, is clean; never both.
    """
    first, other = draw_levels(batch, generator), draw_levels(batch, generator)
    apart, clean, which = torch.rand(3, batch, generator=generator)
    independent = apart < (INDEPENDENT_SHARE if choice.levels == "independent" else 0.0)
    is_clean, is_first = clean < choice.clean, which < 0.5
    return (first, is_clean & is_first), (torch.where(independent, other, first), is_clean & ~is_first)


def at_level(z: Tensor, level: Tensor, clean: Tensor, generator: Generator) -> Noisy:
    """The latent with drawn noise at its level, as it is where ``clean`` (METHOD E9, F3)."""
    noise = torch.randn(z.shape, generator=generator).to(z)
    level, clean = level.to(z.device), clean.to(z.device)
    mixed = torch.where(clean.view(-1, *[1] * (z.ndim - 1)), z, noised(z, level, noise))
    return Noisy(latent=mixed, noise=noise, level=level, clean=clean)


def cross_errors(receiver: FlowState, noisy: Noisy, context: Context | None) -> Tensor:
    """``||eps - eps_theta(z_A, level, c, V_B([z_B, f_B]))||^2`` (METHOD E13; MedM2G Eq. 6, MedCoDi-M Eq. 3).

    ``batch``: the mean per study, so that partners can be compared study by study (METHOD F1).
    """
    predicted = receiver.denoiser(noisy.latent, noisy.level, replace(receiver.conditioning, context=context))
    return (noisy.noise - predicted).square().flatten(1).mean(1)


def told(sender: FlowState, noisy: Noisy, absent: Tensor | None = None) -> Context:
    """What a flow at its levels tells (METHOD E13)."""
    return sender.environment(noisy.latent, noisy.level, noisy.clean, absent)


def trainable(*parts: Any) -> bool:
    """Whether any of these modules has a parameter that requires a gradient."""
    return any(p.requires_grad for part in parts if isinstance(part, nn.Module) for p in part.parameters())


class _Noised:
    """The two flows of a pair at their levels, with what they tell: everything of a step that is drawn."""

    def __init__(
        self,
        first: tuple[str, FlowState],
        second: tuple[str, FlowState],
        part: Part,
        generator: Generator,
        choice: GuideChoice,
    ) -> None:
        self.names, self.flows = (first[0], second[0]), (first[1], second[1])
        self.part, self.choice = part, choice
        rows = part.shard.rows(part.size)
        self.levels = draw_pair_levels(part.size, generator, choice)
        with part.shard.noise(part.size):
            self.noisy = tuple(
                at_level(flow.latent, level[rows], clean[rows], generator)
                for flow, (level, clean) in zip(self.flows, self.levels, strict=True)
            )
        absent = (torch.rand(2, part.size, generator=generator) < choice.partner_drop)[:, rows]
        self.contexts = tuple(
            told(flow, noisy, gone.to(flow.latent.device))
            for flow, noisy, gone in zip(self.flows, self.noisy, absent, strict=True)
        )

    def cross_terms(self) -> dict[str, Tensor]:
        """Each flow denoised with what the other tells (METHOD E13)."""
        terms = {}
        for to, by in ((0, 1), (1, 0)):
            if trainable(self.flows[to].denoiser, self.flows[by].environment):
                errors = cross_errors(self.flows[to], self.noisy[to], self.contexts[by])
                terms[f"{self.names[to]} told by {self.names[by]}"] = _mean_noisy(errors, self.levels[to][1], self.part)
        return terms

    def contrast_term(self, contrast: EnvironmentContrast) -> dict[str, Tensor]:
        """The pooled environments of one study resemble each other (METHOD E14)."""
        if not trainable(*(flow.environment for flow in self.flows)):
            return {}
        own = (flow.environment.pooled(one) for flow, one in zip(self.flows, self.contexts, strict=True))
        pooled = [self.part.gathered(one, self.part.size) for one in own]
        loss = contrast(pooled[0], pooled[1], self.part.equal)
        return {f"contrast {'-'.join(self.names)}": self.choice.contrast_weight * loss}

    def description_terms(self, description: Description) -> dict[str, Tensor]:
        """Each new context encoder tells its own modality (docs/decisions/0012)."""
        terms, scale = {}, self.choice.description_weight * self.part.shard.count / self.part.size
        for name, flow, context in zip(self.names, self.flows, self.contexts, strict=True):
            if trainable(flow.environment):
                errors = description(name, flow.environment, context, flow.latent)
                terms[f"{name} described, {'-'.join(self.names)}"] = scale * errors.sum()
        return terms


def _mean_noisy(errors: Tensor, clean: Tensor, part: Part) -> Tensor:
    """The mean over the studies that are not ``clean`` (bool, of the whole batch), as this part's share of it."""
    noisy = ~clean
    own = noisy[part.shard.rows(part.size)].to(errors.device)
    return (errors * own).sum() * part.shard.count / noisy.sum().clamp(min=1).to(errors.device)
