"""Networks of the toy modalities: small enough to read, and they pass every contract check."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.contract.modality import Site
from core.errors import UserError
from core.types import Batch, Conditioning, Context, LatentSpec, Posterior, Prompt, Space

_HIDDEN = 32  # wide enough that the preset's few hundred steps reconstruct well


class ToyPromptEncoder(nn.Module):
    """A learned null token, one token per channel, and their mean on the unit sphere."""

    def __init__(self, channels: int, space: Space, width: int) -> None:
        super().__init__()
        self.width = width
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.tokens = nn.Linear(math.prod(space), width)
        self.pool = nn.Linear(channels * width, width)

    def forward(self, batch: Batch) -> Prompt:
        """Encode ``batch channel *space`` as a prompt of ``1 + channel`` tokens."""
        rows = len(batch)
        tokens = F.gelu(self.tokens(batch.data.reshape(rows, batch.data.shape[1], -1)))
        pooled = F.normalize(self.pool(tokens.flatten(1)), dim=-1)
        tokens = torch.cat([self.null.expand(rows, 1, -1), tokens], 1)
        return Prompt(
            tokens=tokens, pooled=pooled, mask=torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        )


class ToyAutoencoder(nn.Module):
    """Pixels to latents by a strided convolution and a mixing one (grids) or two linear layers (vectors), and back."""

    def __init__(self, modality: str, channels: int, space: Space, latent_channels: int, kl_weight: float) -> None:
        super().__init__()
        self.modality, self.kl_weight = modality, kl_weight
        factor = 2 if space else 1
        self.spec = LatentSpec(
            channels=latent_channels, space=tuple(side // factor for side in space), downsample=factor
        )
        enter: nn.Module
        leave: nn.Conv2d | nn.Linear
        if space:
            enter, leave = nn.Conv2d(channels, _HIDDEN, 2, 2), nn.Conv2d(_HIDDEN, 2 * latent_channels, 1)
            back, out = nn.Conv2d(latent_channels, _HIDDEN, 1), nn.ConvTranspose2d(_HIDDEN, channels, 2, 2)
        else:
            enter, leave = nn.Linear(channels, _HIDDEN), nn.Linear(_HIDDEN, 2 * latent_channels)
            back, out = nn.Linear(latent_channels, _HIDDEN), nn.Linear(_HIDDEN, channels)
        self.encoder, self.decoder = nn.Sequential(enter, nn.SiLU(), leave), nn.Sequential(back, nn.SiLU(), out)
        # The posterior starts narrow: otherwise the first hundred steps only learn to reduce its noise.
        with torch.no_grad():
            leave.bias[latent_channels:] = -6  # type: ignore[index]

    def encode(self, batch: Batch) -> Posterior:
        """Return mean and log-variance, ``batch channel *space``."""
        mean, logvar = self.encoder(batch.data).chunk(2, dim=1)
        return Posterior(mean=mean, logvar=logvar.clamp(-20, 10))

    def decode(self, latent: Tensor) -> Batch:
        """Return data in [-1, 1]."""
        return Batch(modality=self.modality, data=self.decoder(latent).clamp(-1, 1))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Return the mean squared error and the weighted KL divergence."""
        posterior = self.encode(batch)
        restored = self.decoder(posterior.draw(generator))
        kl = 0.5 * (posterior.mean.square() + posterior.logvar.exp() - 1 - posterior.logvar)
        return {"reconstruction": F.mse_loss(restored, batch.data), "kl": self.kl_weight * kl.sum() / len(batch)}


class ToyDenoiser(nn.Module):
    """Latent positions as tokens: self-attention, attention to the prompt, feed-forward; a site after it.

    A second site takes the summary of the partners, which is added to every token.
    """

    def __init__(self, channels: int, space: Space, width: int, prompt_width: int) -> None:
        super().__init__()
        self.latent_shape, self.prompt_width = (channels, *space), prompt_width
        self._sites = (Site("block", width, space or (1,)), Site("summary", width, (), "residual"))
        self.enter = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.randn(math.prod(space), width) * 0.02)
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(prompt_width, 2 * width)
        self.mix = nn.MultiheadAttention(width, 2, batch_first=True)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.leave = nn.Linear(width, channels)
        self.context: nn.Module | None = None
        self.summary: nn.Module | None = None

    def forward(self, noisy: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the prediction in the shape of ``noisy``, ``batch channel *space``; ``level`` is log-SNR ``batch``."""
        tokens = noisy.flatten(2).transpose(1, 2) if noisy.ndim > 2 else noisy[:, None]
        hidden = self.enter(tokens) + self.position + self.level(level[:, None] / 10)[:, None]
        if self.summary is not None and conditioning.context is not None:
            update = self.summary(conditioning.context)
            hidden = hidden + update.repeat(len(hidden) // len(update), 1)[:, None]
        hidden = hidden + self.mix(hidden, hidden, hidden, need_weights=False)[0]
        hidden = hidden + self._attend(hidden, conditioning)
        hidden = hidden + self.feed(hidden)
        if self.context is not None and conditioning.context is not None:
            hidden = hidden + self._guided(self.context, hidden, conditioning.context)
        return self.leave(hidden).transpose(1, 2).reshape(noisy.shape)

    def _guided(self, module: nn.Module, hidden: Tensor, context: Context) -> Tensor:
        return module(hidden, context)

    def _attend(self, hidden: Tensor, conditioning: Conditioning) -> Tensor:
        key, value = self.key_value(conditioning.prompt).chunk(2, dim=-1)
        mask = conditioning.prompt_mask
        return F.scaled_dot_product_attention(
            self.query(hidden), key, value, attn_mask=None if mask is None else mask[:, None, :]
        )

    def context_sites(self) -> list[Site]:
        """Return the site after the feed-forward layer, and that of the summaries."""
        return list(self._sites)

    def attach(self, site: str, module: nn.Module) -> None:
        """Attach a module at a site; `UserError` for an unknown or occupied one."""
        attribute = {"block": "context", "summary": "summary"}.get(site, "")
        if not attribute or getattr(self, attribute) is not None:
            raise UserError(f"no free site '{site}' (sites: {', '.join(each.name for each in self._sites)})")
        setattr(self, attribute, module)
