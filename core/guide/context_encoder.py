"""The context encoder V of a modality: it encodes a flow in progress for the other flows (method E12, E13, F1-F4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.config.recipe import GuideChoice
from core.errors import UserError
from core.guide.aligned import AlignedBranch, AlignedFeatures, masked_features, summed_features
from core.guide.attention import heads_of
from core.guide.patches import MOST_TOKENS, PatchGrid
from core.guide.patient_grid import patient_grid
from core.guide.positions import NUM_FEATURES, grid_positions, position_features
from core.guide.summary import SummaryBranch, summed_summaries
from core.nn import universal_timestep
from core.nn.denoisers.unet0d import Attention, timestep_features
from core.types import Context, Geometry, LatentSpec, PatientGrid, Prompt

NUM_PARAMETERS = 8  # of the guided adaptation
_LEVEL_FEATURES = 64


class ContextEncoder(nn.Module):
    """``V_B([z_B, f_B])`` of one sender B (method E13; MedM2G Eq. 6, MedCoDi-M Eq. 3).

    ``spec`` and ``geometry`` are those of modality B. ``form = "spatial"``: a token per patch of the latent, with its
    position; ``"pooled"``: their mean alone, as in the papers. ``most_tokens`` limits them along each axis
    (`PatchGrid`). ``adaptation`` is f_B, and left out where a recipe has none; ``contrast`` adds the projection of E14,
    which in spatial form reads a summary token of its own: pulled together with its partners' means, the spatial tokens
    would lose what a later round needs of them. With ``summary_width`` it reads the summary instead. Everything that is
    particular to the sender B is trained here, so that a frozen receiver can read a new sender.

    With ``aligned_width`` a sender that has a grid in the patient sends features of that width too, at the resolution
    of its latent, and with ``summary_width`` every sender a summary (method F7). Where ``aligned_alone`` its partners
    read no tokens of the latent: there are none, unless the contrast reads them or they are ``described``
    (docs/decisions/0012), which masks them for the partners.
    """

    position: Tensor
    axes: Tensor

    def __init__(
        self,
        spec: LatentSpec,
        geometry: Geometry | None,
        *,
        width: int,
        depth: int = 2,
        form: Literal["pooled", "spatial"] = "spatial",
        adaptation: AdaptationTokens | None = None,
        contrast: bool = False,
        most_tokens: tuple[int, int, int] = MOST_TOKENS,
        aligned_width: int | None = None,
        summary_width: int | None = None,
        aligned_alone: bool = False,
        described: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.space, self.form, self.width = (spec.channels, *spec.space), spec.space, form, width
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.sender = nn.Parameter(torch.randn(width) * 0.02)
        self.patches = PatchGrid(spec.space, most_tokens)
        self.level = nn.Sequential(nn.Linear(_LEVEL_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.clean = nn.Parameter(torch.randn(width) * 0.02)
        self.f_B = adaptation
        self.to_pooled = nn.Linear(summary_width or width, width) if contrast else nn.Identity()
        reads_tokens = contrast and summary_width is None
        has_summary_token = reads_tokens and form == "spatial"
        self.summary = nn.Parameter(torch.randn(width) * 0.02) if has_summary_token else None
        self._add_positions(geometry)
        self._add_aligned(patient_grid(geometry, spec.space), aligned_width)
        summary = None if summary_width is None else SummaryBranch(spec.channels, spec.space, summary_width, width)
        self.register_module("summarise", summary)
        self.sends_tokens = not aligned_alone
        self.has_tokens = self.sends_tokens or reads_tokens or described
        # Without tokens there is nothing to encode, and a frozen or averaged weight would only cost time.
        wide = width * self.patches.tokens_per_patch
        self.enter = nn.Linear(self.patches.width(spec.channels), wide) if self.has_tokens else nn.Identity()
        self.blocks = nn.ModuleList([_Block(width) for _ in range(depth if self.has_tokens else 0)])

    def _add_positions(self, geometry: Geometry | None) -> None:
        """Take the positions of the tokens from the geometry; tokens without one learn an embedding each."""
        length = self.patches.num_tokens
        if geometry is None:
            position, axes = torch.zeros(length, 3), torch.zeros(length, 3, dtype=torch.bool)
            self.slots = nn.Parameter(torch.randn(length, self.width) * 0.02)
            embedding = None
        else:
            position, axes = grid_positions(geometry, self.patches.grid)
            self.register_parameter("slots", None)
            embedding = nn.Linear(NUM_FEATURES, self.width, bias=False)
        self.register_module("to_place", embedding)  # the name of its weights in files
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("axes", axes, persistent=False)

    def _add_aligned(self, grid: PatientGrid | None, width: int | None) -> None:
        """Add the branch of aligned features, where the sender has a grid in the patient (method F7)."""
        self.grid = None if width is None else grid
        branch = None
        if self.grid is not None and width is not None:
            branch = AlignedBranch(self.shape[0], self.space, width, self.width)
        self.register_module("aligned", branch)

    def forward(self, noisy: Tensor, level: Tensor, clean: Tensor, absent: Tensor | None = None) -> Context:
        """``noisy`` scaled latent ``batch channel *space`` at ``level`` log-SNR ``batch``; ``clean`` bool ``batch``.

        Where ``clean``, the latent is taken as it is and its level is ignored. Where ``absent`` (bool ``batch``), f_B
        stands for B (method E12, F4), or the null token alone where there is no f_B.
        Raises `UserError` for a latent of another shape.
        """
        if tuple(noisy.shape[1:]) != self.shape:
            raise UserError(f"this context encoder reads latents {self.shape}, found {tuple(noisy.shape[1:])}")
        embedding = self._level_embedding(level, clean)
        tokens = self._encoded(noisy, embedding) if self.has_tokens else embedding[:, None][:, :0]
        if self.form == "pooled" and self.has_tokens:
            tokens = tokens.mean(1, keepdim=True)
        present = torch.ones(len(noisy), dtype=torch.bool, device=noisy.device) if absent is None else ~absent
        context = self._context(tokens, present)
        return replace(
            context,
            aligned=self._aligned_features(noisy, embedding, present),
            summary=self._summary(noisy, embedding, present),
        )

    def pooled(self, context: Context) -> Tensor:
        """Return a context of this encoder as one vector of unit norm, ``batch width`` (method E14)."""
        if context.summary is not None and self._modules["summarise"] is not None:
            return F.normalize(self.to_pooled(context.summary).float(), dim=-1)
        length = self.patches.num_tokens if self.form == "spatial" and self.summary is None else 1
        return F.normalize(self.to_pooled(context.tokens[:, 1 : 1 + length].mean(1)).float(), dim=-1)

    def latent_tokens(self, context: Context) -> Tensor:
        """Return the tokens of the latent in a context of this encoder, ``batch length width``."""
        start = 1 + (self.summary is not None)
        return context.tokens[:, start : start + (self.patches.num_tokens if self.form == "spatial" else 1)]

    def readable(self, context: Context, read: Tensor) -> Context:
        """Return a context of this encoder in which the latent is absent where not ``read`` (bool ``batch``; E12, F4).

        There f_B stands for it: the same as with ``absent`` in `forward`, for one receiver of several.
        """
        num = 0 if self.f_B is None else NUM_PARAMETERS
        content = torch.ones(context.tokens.shape[1], dtype=torch.bool, device=context.mask.device)
        content[0], content[len(content) - num :] = False, False
        mask = context.mask & (read.to(context.mask.device)[:, None] | ~content)
        summary = None if context.summary is None else _where(read, context.summary)
        return replace(context, mask=mask, aligned=masked_features(context.aligned, read), summary=summary)

    def _level_embedding(self, level: Tensor, clean: Tensor) -> Tensor:
        """Return what every token and feature is told of level, clean flag and sender, ``batch width``."""
        time = self.level(timestep_features(universal_timestep(level), _LEVEL_FEATURES).to(self.clean.dtype))
        return torch.where(clean[:, None], self.clean, time) + self.sender

    def _aligned_features(self, noisy: Tensor, embedding: Tensor, present: Tensor) -> AlignedFeatures:
        """Return the features of the latent on its grid in the patient, 0 where absent (method F7)."""
        branch = self._modules["aligned"]
        if branch is None or self.grid is None:
            return {}
        return masked_features({self.grid: branch(noisy.to(embedding.dtype), embedding)}, present)

    def _summary(self, noisy: Tensor, embedding: Tensor, present: Tensor) -> Tensor | None:
        """Return the summary of the latent, 0 where absent (method F7)."""
        branch = self._modules["summarise"]
        return None if branch is None else _where(present, branch(noisy.to(embedding.dtype), embedding))

    def _encoded(self, noisy: Tensor, embedding: Tensor) -> Tensor:
        """Return the tokens of the latent, ``batch length width``, the summary first where there is one."""
        hidden = self.enter(self.patches.cut(noisy)).reshape(len(noisy), -1, self.width)
        hidden = hidden + embedding[:, None].to(hidden.dtype)
        hidden, f = hidden + self._position_embedding(), self._adaptation_tokens(len(noisy))
        if self.summary is not None:
            hidden = torch.cat([self.summary.to(hidden.dtype).expand(len(hidden), 1, -1), hidden], 1)
        for block in self.blocks:
            hidden = block(hidden, f)
        return hidden

    def _position_embedding(self) -> Tensor:
        """Return the embedding of where the tokens lie, ``length width``."""
        embedding = self._modules["to_place"]
        return self.slots if embedding is None else embedding(position_features(self.position, self.axes))

    def _adaptation_tokens(self, batch: int) -> Tensor:
        """Return f_B, ``batch length width``; no token without an adaptation."""
        if self.f_B is None:
            return self.sender.new_zeros(batch, 0, self.width)
        return (self.f_B() + self.sender).expand(batch, -1, -1)

    def _context(self, latent: Tensor, present: Tensor) -> Context:
        """Return ``[null, tokens of the latent, f_B]``; the latent's are masked where B is not ``present``."""
        batch, length = latent.shape[:2]
        f = self._adaptation_tokens(batch)
        tokens = torch.cat([self.null.to(latent.dtype).expand(batch, 1, -1), latent, f.to(latent.dtype)], 1)
        always = torch.ones(batch, 1 + f.shape[1], dtype=torch.bool, device=latent.device)
        sent = present if self.sends_tokens else torch.zeros_like(present)
        mask = torch.cat([always[:, :1], sent[:, None].expand(-1, length), always[:, 1:]], 1)
        position = tokens.new_zeros(*tokens.shape[:2], 3, dtype=torch.float32)
        axes = torch.zeros(*tokens.shape[:2], 3, dtype=torch.bool, device=latent.device)
        if self.form == "spatial" and self.has_tokens:
            with_position = slice(1 + length - len(self.position), 1 + length)
            position[:, with_position], axes[:, with_position] = self.position.float(), self.axes
        return Context(tokens=tokens, mask=mask, position_mm=position, axes=axes)


class _Block(nn.Module):
    """Attention of the latent's tokens to each other and to f_B, then a feed-forward layer; both with skips."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_self, self.norm_f, self.norm_feed = (nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, width, heads_of(width))
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor, f: Tensor) -> Tensor:
        """``hidden`` ``batch length width``, same shape out; ``f`` ``batch length width``."""
        normed = self.norm_self(hidden)
        hidden = hidden + self.attention(normed, torch.cat([normed, self.norm_f(f)], 1))
        return hidden + self.feed(self.norm_feed(hidden))


def new_context_encoder(
    choice: GuideChoice, spec: LatentSpec, geometry: Geometry | None, *, width: int, prompt_width: int, depth: int = 2
) -> ContextEncoder:
    """Return a fresh context encoder as a recipe configures it (method E12-E14, F2).

    Raises `UserError` where the recipe has no context.
    """
    if choice.context == "none":
        raise UserError("guide.context = 'none': this recipe trains no context encoder; leave the phase 'guide' out")
    adaptation = AdaptationTokens(NUM_PARAMETERS, prompt_width, width) if choice.adaptation else None
    return ContextEncoder(
        spec,
        geometry,
        width=width,
        depth=depth,
        form=choice.context,
        adaptation=adaptation,
        contrast=choice.contrast,
        most_tokens=choice.tokens,
        aligned_width=choice.features_width,
        summary_width=choice.summary_width if choice.summary else None,
        aligned_alone=choice.aligned == "alone",
        described=choice.description,
    )


def joined(contexts: Sequence[Context]) -> Context:
    """Return the contexts of several partners as one, in the order given (method F4). Raises `UserError` for none."""
    if not contexts:
        raise UserError("there is no partner: leave the context out instead")
    first = contexts[0]
    return replace(
        first,
        tokens=torch.cat([context.tokens for context in contexts], 1),
        mask=torch.cat([context.mask for context in contexts], 1),
        position_mm=torch.cat([context.position_mm for context in contexts], 1),
        axes=torch.cat([context.axes for context in contexts], 1),
        aligned=summed_features([context.aligned for context in contexts]),
        summary=summed_summaries([context.summary for context in contexts]),
    )


def _where(rows: Tensor, values: Tensor) -> Tensor:
    """Return values ``batch width``, exactly 0 where not ``rows`` (bool ``batch``)."""
    return torch.where(rows.to(values.device)[:, None], values, 0)


class AdaptationTokens(nn.Module):
    """Guided adaptation ``f_B = F_emb(phi_s(z_B))``, which stands for B where B is absent (method E12; MedM2G Eq. 5).

    ``phi_s``: ``num_parameters`` context parameters, drawn at random from prompt tokens of modality B (`draw_from`)
    and trained from there on. ``F_emb``: an embedding layer from ``prompt_width`` to ``width``.
    """

    def __init__(self, num_parameters: int, prompt_width: int, width: int) -> None:
        super().__init__()
        self.phi_s = nn.Parameter(torch.randn(num_parameters, prompt_width) * prompt_width**-0.5)
        self.F_emb = nn.Linear(prompt_width, width)

    def forward(self) -> Tensor:
        """f_B, ``length width``: the same for every sample."""
        return self.F_emb(self.phi_s)

    def draw_from(self, prompt: Prompt, generator: Generator) -> None:
        """Start the context parameters at prompt tokens of the modality (method E12)."""
        with torch.no_grad():
            self.phi_s.copy_(draw_parameters(prompt, len(self.phi_s), generator))


def draw_parameters(prompt: Prompt, num: int, generator: Generator) -> Tensor:
    """Draw ``num`` of the tokens of a batch of prompts, ``num width``; never a null or masked token (method E12).

    No token twice unless there are too few. Raises `UserError` where the prompts hold no token but the null token.
    """
    counts = prompt.mask.clone()
    counts[:, 0] = False
    tokens = prompt.tokens[counts].detach()
    if not len(tokens):
        raise UserError("guided adaptation: these prompts hold no token but the null token; give other studies")
    rounds = -(-num // len(tokens))
    order = torch.cat([torch.randperm(len(tokens), generator=generator) for _ in range(rounds)])
    return tokens[order[:num].to(tokens.device)]
