"""Guidance: predictions with and without the prompt, and with and without the partners, combined (method E6, F8).

All of it is linear in the prediction at a latent and its level, and so is every parameterisation of the denoiser:
guiding the predicted noise, velocity or clean latent is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config.sampler import GuidanceOrder, SamplerChoice
from core.contract.modality import Denoiser
from core.nn import Parameterisation, alpha_sigma
from core.types import Conditioning, Context

STACKED_ROWS = 8  # samples up to which one forward of all branches is faster than a forward for each


class Branch(NamedTuple):
    """What a prediction is conditioned on: ``prompted`` or the null prompt; ``coupled`` with the partners or none."""

    prompted: bool
    coupled: bool


PLAIN = Branch(prompted=True, coupled=True)


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """The guidance of an output: the scales of prompt and context (method F8), and where they act.

    ``interval``: two log-SNR, outside which the plain model predicts. ``rescale``: phi of `rescaled`. See
    `SamplerChoice`.
    """

    scale: float = 1.0
    context_scale: float = 1.0
    order: GuidanceOrder = "context_first"
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    @classmethod
    def of(cls, sampler: SamplerChoice, modality: str) -> Guidance:
        """Return the guidance that a sampler has for an output."""
        return cls(
            scale=sampler.scale_of(modality),
            context_scale=sampler.context_scale_of(modality),
            order=sampler.guidance_order,
            interval=sampler.interval,
            rescale=sampler.rescale_of(modality),
        )

    @property
    def without_partners(self) -> bool:
        """Return whether a branch without partners counts."""
        return self.context_scale != 1 or (self.order == "prompt_first" and self.scale != 1)

    def acts_at(self, level: Tensor) -> bool:
        """Return whether a log-SNR (scalar) lies in the interval (Kynkaanniemi et al. 2024, Eq. 5)."""
        return self.interval is None or self.interval[0] <= float(level) <= self.interval[1]

    def weights_at(self, level: Tensor, *, prompted: bool, coupled: bool) -> dict[Branch, float]:
        """Return the `branch_weights` at a level: outside the interval the plain model alone."""
        if not self.acts_at(level):
            return {PLAIN: 1.0}
        return branch_weights(self.scale, self.context_scale, self.order, prompted=prompted, coupled=coupled)


PLAIN_MODEL = Guidance()


def branch_weights(
    scale: float,
    context_scale: float,
    order: GuidanceOrder = "context_first",
    *,
    prompted: bool = True,
    coupled: bool = True,
) -> dict[Branch, float]:
    """Return the weight of every branch that counts; their sum is 1 (method F8).

    With s_p for ``scale``, s_c for ``context_scale`` and p(prompt, partners):

    - ``prompt_first``: ``p(0, none) + s_p [p(c, none) - p(0, none)] + s_c [p(c, V) - p(c, none)]``;
    - ``context_first``: ``p(0, none) + s_c [p(0, V) - p(0, none)] + s_p [p(c, V) - p(0, V)]`` (Brooks et al. 2023,
      Eq. 3), with s_c = 1 the classifier-free guidance of the papers with partners in both halves (method E6).

    Equal branches collapse, and one of weight 0 is left out: s_p = s_c = 1 is the plain model. Without a prompt
    (``prompted`` false) s_p has nothing to act on, without partners s_c has none.
    """
    if not coupled:
        context_scale, order = 1.0, "context_first"
    if not prompted:
        scale, order = 1.0, "prompt_first"
    if order == "prompt_first":
        weights = {Branch(False, False): 1 - scale, Branch(True, False): scale - context_scale, PLAIN: context_scale}
    else:
        weights = {Branch(False, False): 1 - context_scale, Branch(False, True): context_scale - scale, PLAIN: scale}
    return {branch: weight for branch, weight in weights.items() if weight != 0}


def guided_prediction(predictions: Mapping[Branch, Tensor], weights: Mapping[Branch, float]) -> Tensor:
    """Return the weighted sum of the branches, ``batch channel *space`` (method F8); a single branch as it is."""
    if tuple(weights.values()) == (1.0,):
        return predictions[next(iter(weights))]
    return torch.stack([weight * predictions[branch] for branch, weight in weights.items()]).sum(0)


def rescaled_prediction(
    guided: Tensor, plain: Tensor, z: Tensor, level: Tensor, parameterisation: Parameterisation, phi: float
) -> Tensor:
    """Return the prediction whose clean estimate is that of ``guided``, `rescaled` to that of ``plain`` (method F8).

    Lin et al. rescale the velocity, which is minus the clean latent at pure noise. The clean estimate itself is the
    same whatever a network predicts, and its range is what guidance widens. ``z`` is the latent, ``level`` its log-SNR
    (scalar); all others ``batch channel *space``.
    """
    wide, narrow = (parameterisation.to_clean(z, prediction, level) for prediction in (guided, plain))
    clean = rescaled(wide, narrow, phi)
    alpha, sigma = alpha_sigma(level)
    return parameterisation.target(clean, (z - alpha * clean) / sigma, level)


def rescaled(guided: Tensor, plain: Tensor, phi: float) -> Tensor:
    """Return ``phi guided std(plain) / std(guided) + (1 - phi) guided`` (Lin et al. 2024, Eq. 15 and 16).

    All ``batch channel *space``; the standard deviation is that of each sample. Guidance widens the range of values,
    and this takes the share phi of it back.
    """
    axes = tuple(range(1, guided.ndim))
    ratio = plain.std(axes, keepdim=True) / guided.std(axes, keepdim=True).clamp(min=1e-8)
    return guided * (phi * ratio + 1 - phi)


def predict_branches(
    denoiser: Denoiser, z: Tensor, level: Tensor, conditionings: Sequence[Conditioning], *, most: int = STACKED_ROWS
) -> list[Tensor]:
    """Return the prediction of a latent under each conditioning, ``batch channel *space`` each.

    One forward serves all that have a context, and one all without, where the batch has at most ``most`` samples: the
    rows of a batch do not touch each other, so the results are equal up to rounding.
    """
    if len(z) > most:
        return [denoiser(z, level, conditioning) for conditioning in conditionings]
    predicted: dict[int, Tensor] = {}
    for has_context in (True, False):
        chosen = [row for row, each in enumerate(conditionings) if (each.context is not None) == has_context]
        if chosen:
            num = len(chosen)
            together = stacked([conditionings[row] for row in chosen])
            parts = denoiser(torch.cat([z] * num), level.repeat(num), together).chunk(num)
            predicted |= dict(zip(chosen, parts, strict=True))
    return [predicted[row] for row in range(len(conditionings))]


def stacked(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Return conditionings as one of all their rows; shorter prompts are padded with masked tokens.

    A context that all of them share stays as it is: its rows are then a divisor of the others (`ContextAttention`).
    """
    if len(conditionings) == 1:
        return conditionings[0]
    length = max(each.prompt.shape[1] for each in conditionings)
    contexts = [each.context for each in conditionings if each.context is not None]
    pooled = [each.pooled for each in conditionings if each.pooled is not None]
    return Conditioning(
        prompt=torch.cat([_padded(each.prompt, length) for each in conditionings]),
        prompt_mask=torch.cat([_padded_mask(each, length) for each in conditionings]),
        pooled=torch.cat(pooled) if pooled else None,
        context=_stacked_or_shared(contexts),
    )


def _stacked_or_shared(contexts: Sequence[Context]) -> Context | None:
    if not contexts or all(context is contexts[0] for context in contexts):
        return contexts[0] if contexts else None
    return stacked_contexts(contexts)


def stacked_contexts(contexts: Sequence[Context]) -> Context:
    """Return contexts of one length as one of all their rows."""
    values = {field.name: [getattr(context, field.name) for context in contexts] for field in fields(contexts[0])}
    return replace(contexts[0], **{name: _concatenated(parts) for name, parts in values.items()})


def _concatenated(parts: Sequence[Any]) -> Any:
    """Concatenate tensors along the batch, and those in mappings and sequences one by one."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return {key: _concatenated([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(_concatenated(values) for values in zip(*parts, strict=True))
    return first


def _padded(prompt: Tensor, length: int) -> Tensor:
    return F.pad(prompt, (0, 0, 0, length - prompt.shape[1]))


def _padded_mask(conditioning: Conditioning, length: int) -> Tensor:
    prompt, mask = conditioning.prompt, conditioning.prompt_mask
    attended = torch.ones(prompt.shape[:2], dtype=torch.bool, device=prompt.device) if mask is None else mask
    return F.pad(attended, (0, length - prompt.shape[1]), value=False)
