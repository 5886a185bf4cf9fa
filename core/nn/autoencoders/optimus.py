"""Optimus, the text autoencoder: a text to one vector and back, and the terms of its loss (method E8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from transformers import BertModel

from core.errors import UserError
from core.nn.autoencoders.decoder import PAD, LatentDecoder, start_std, write_ids
from core.nn.autoencoders.decoding import Decoding
from core.nn.bert import bert
from core.nn.pretrained import load_bert
from core.types import Batch, LatentSpec, Posterior

if TYPE_CHECKING:
    from core.nn.autoencoders.config import TextAutoencoderConfig

# The posterior starts narrow (standard deviation 0.05). Fresh weights give means that differ by little more, and wide
# noise would hide them for hundreds of steps. The linear map has no bias that could set this.
_START_LOGVAR = -6.0


class TextAutoencoder(nn.Module):
    """`Batch` of token ids to a latent and back; see `TextAutoencoderConfig` (method E8).

    The buffer ``steps`` counts the losses taken in training mode; the cyclical weight of the divergence follows it.
    It is part of the state, so a resumed run continues the schedule.
    """

    steps: Tensor
    num_losses: int | None = None  # of the whole training; see `set_num_losses`

    def __init__(self, config: TextAutoencoderConfig) -> None:
        super().__init__()
        self.spec: LatentSpec = config.spec
        self._config = config
        self.encoder = _encoder(config)
        if config.encoder_from is not None:
            load_bert(self.encoder, config.encoder_from, config.length)
        # The posterior's mean, then its log-variance.
        self.to_posterior = nn.Linear(config.width, 2 * config.latent_width, bias=False)
        self.decoder = LatentDecoder(config)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def encode(self, batch: Batch) -> Posterior:
        """Encode ``batch.data`` int64 ids ``batch length``; ids where ``batch.mask`` is false have no influence.

        Returns mean and log-variance ``batch latent_width``, from the features of the first token, which is the begin
        token (BERT's [CLS]), or from the mean over all. Raises `UserError` for more tokens than ``length``.
        """
        ids, mask = self._require_ids(batch)
        attended = mask[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        features = self.encoder(input_ids=ids, attention_mask=attended).last_hidden_state
        pooled = features[:, 0] if self._config.pool == "first" else _mean(features, mask)
        mean, logvar = self.to_posterior(pooled).chunk(2, dim=-1)
        return Posterior(mean=mean, logvar=logvar + _START_LOGVAR)

    def decode(self, latent: Tensor, how: Decoding | None = None, generators: Sequence[Generator] = ()) -> Batch:
        """Decode a latent ``batch latent_width`` (not scaled) to ids with their mask, begin and end tokens included.

        Decoding is that of the configuration by default. A random choice draws for each row from a separate generator,
        so that the text of a latent does not depend on its batch. ``modality`` of the result is ``""``: the caller sets
        it.
        """
        how = how or self._config.decoding
        self._config.require_trained_for(how)
        with torch.no_grad():
            ids = write_ids(self.decoder, latent, how, generators)
            if how.candidates > 1:
                ids = ids[self._nearest(ids, latent)]
                ids = ids[:, : int((ids != PAD).sum(1).max())]
        return Batch(modality="", data=ids, mask=ids != PAD)

    def decode_generated(self, latent: Tensor) -> Batch:
        """Decode latents that were generated, as ``decoding_generated`` says; see `decode`."""
        return self.decode(latent, self._config.decoding_generated)

    def _nearest(self, ids: Tensor, latent: Tensor) -> Tensor:
        """Return, for each latent, the row of ids among its own whose posterior mean is nearest to it."""
        means = torch.cat([self.encode(Batch(modality="", data=rows, mask=rows != PAD)).mean for rows in ids.split(64)])
        distance = (means.unflatten(0, (len(latent), -1)) - latent[:, None]).square().sum(-1)
        return distance.argmin(1) + torch.arange(len(latent), device=ids.device) * distance.shape[1]

    def set_num_losses(self, number: int) -> None:
        """Tell how many losses the whole training takes: the first part of them, ``language_share``, differs.

        Where it is not told, there is no such part.
        """
        self.num_losses = number

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Return the terms of method E8, float32, averaged over the batch. All noise comes from ``generator``.

        ``reconstruction``: cross-entropy summed over the tokens of a text. ``kl``: the present weight times the
        divergence, free up to ``free_bits`` per feature.
        """
        config, (ids, mask) = self._config, self._require_ids(batch)
        encoded = self._draw_encoded(len(ids), generator)
        posterior = self.encode(batch) if encoded is None else self._encode_some(batch, encoded)
        inputs = drop_tokens(ids[:, :-1], config.word_dropout if self.training else 0.0, generator)
        latent = posterior.draw(generator)
        if self.training and config.latent_noise:
            latent = noisy_latents(latent, posterior.mean, config.latent_noise, generator)
        divergence = divergence_above(posterior, config.free_bits)
        if encoded is not None:
            latent, divergence = latent * encoded[:, None], divergence * encoded
        logits = self.decoder(inputs, latent)
        return {
            "reconstruction": token_losses(logits, ids[:, 1:], mask[:, 1:]).mean(),
            "kl": self._beta() * divergence.mean(),
        }

    def _draw_encoded(self, size: int, generator: Generator) -> Tensor | None:
        """Draw which texts of a batch the decoder writes from their latent, bool ``size``; ``None``: all."""
        config = self._config
        language_steps = config.language_share * (self.num_losses or 0)
        if not self.training or not (config.latent_dropout or language_steps):
            return None
        dropped = latent_dropout(self.steps, config.latent_dropout, language_steps).to(generator.device)
        return (torch.rand(size, generator=generator, device=generator.device) >= dropped).to(self.steps.device)

    def _encode_some(self, batch: Batch, encoded: Tensor) -> Posterior:
        """Encode the chosen texts only; the others have mean and log-variance 0 and cost no time."""
        rows = encoded.nonzero()[:, 0]
        empty = self.to_posterior.weight.new_zeros(len(encoded), self._config.latent_width)
        if not len(rows):
            return Posterior(mean=empty, logvar=empty)
        some = self.encode(batch[rows])
        return Posterior(
            mean=empty.to(some.mean).index_copy(0, rows, some.mean),
            logvar=empty.to(some.logvar).index_copy(0, rows, some.logvar),
        )

    def _beta(self) -> Tensor:
        """Return the weight of the divergence at this step, and count the step in training mode."""
        config = self._config
        weight = config.beta * cyclical_beta(self.steps, config.cycle)
        if self.training:
            self.steps += 1
        return weight

    def _require_ids(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return ids with 0 for padding, and the mask with a true first column; `UserError` for too many tokens."""
        ids, limit = batch.data, self._config.length
        if ids.shape[1] > limit:
            raise UserError(
                f"the text autoencoder takes at most {limit} tokens, found {ids.shape[1]}; cut or split them"
            )
        mask = torch.ones_like(ids, dtype=torch.bool) if batch.mask is None else batch.mask.clone()
        mask[:, 0] = True
        return ids.masked_fill(~mask, 0), mask


def _mean(features: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the unmasked tokens, ``batch width``."""
    return features.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


def latent_dropout(step: Tensor, least: float, language_steps: float) -> Tensor:
    """Return the fraction of texts without latent at a training step, counted from 0 (method E8).

    It falls linearly from 1 to ``least`` over ``language_steps``: a decoder that can write learns sooner to read.
    """
    if not language_steps:
        return torch.full_like(step, least, dtype=torch.float32)
    return least + (1 - least) * (1 - step / language_steps).clamp(min=0)


def drop_tokens(ids: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Replace a random fraction of the ids, never the begin token, by 0, which no text contains."""
    if not fraction:
        return ids
    dropped = torch.rand(ids.shape, generator=generator, device=generator.device) < fraction
    dropped[:, 0] = False
    return ids.masked_fill(dropped.to(ids.device), 0)


def noisy_latents(latent: Tensor, mean: Tensor, largest: float, generator: Generator) -> Tensor:
    """Return latents ``batch width`` with Gaussian errors, whose size a decoder cannot know beforehand (method E8).

    A text's errors have a standard deviation of up to ``largest``, drawn evenly, in units of the root mean square of
    its posterior mean. In units of the latent a larger latent would escape them; in units of the text's own, a result
    does not depend on the batch.
    """
    size = mean.detach().float().square().mean(1, keepdim=True).sqrt()
    level = largest * torch.rand((len(latent), 1), generator=generator, device=generator.device)
    error = torch.randn(latent.shape, generator=generator, device=generator.device)
    return latent + size * (level * error).to(latent)


def _encoder(config: TextAutoencoderConfig) -> BertModel:
    return bert(
        config.vocabulary,
        config.length,
        config.width,
        config.depth,
        config.num_heads,
        initializer_range=start_std(config.width),
        hidden_dropout_prob=0.0,  # the library's dropout draws from the global random state
        attention_probs_dropout_prob=0.0,
    )


def token_losses(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy of each text, summed over its tokens (method E8); float32 ``batch``.

    ``logits`` ``batch length vocabulary``, ``targets`` ids ``batch length``; padding, where ``mask`` is false, does
    not count.
    """
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets).masked_fill(~mask, 0).sum(1)


def divergence_above(posterior: Posterior, free_bits: float) -> Tensor:
    """Return the divergence from the standard normal, at least ``free_bits`` nats a feature (method E8); ``batch``.

    A feature below that has no gradient: its information is free, and nothing pulls it to the prior.
    """
    return feature_divergence(posterior).clamp(min=free_bits).sum(1)


def feature_divergence(posterior: Posterior) -> Tensor:
    """Return the KL divergence of each feature's posterior from the standard normal, nats; float32 ``batch width``."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def cyclical_beta(step: Tensor, cycle: int) -> Tensor:
    """Return the weight of the divergence in [0, 1] at a training step, counted from 0 (method E8); 1 at ``cycle`` 0.

    It is 0 for half of the cycle, rises linearly for a quarter, and is 1 for the last quarter.
    """
    if not cycle:
        return step.new_ones(step.shape).float()
    return (4 * (step % cycle) / cycle - 2).clamp(0, 1)
