"""Text to one vector and back: Optimus (METHOD E8).

The terms of the text autoencoder's loss (METHOD E8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from transformers import BertModel

from core.errors import UserError
from core.nn.autoencoders.decoder import Decoding, LatentDecoder, start_std, write
from core.nn.bert import bert
from core.nn.pretrained import load_bert
from core.types import Batch, LatentSpec, Posterior

if TYPE_CHECKING:
    from core.nn.autoencoders.config import TextAutoencoderConfig


def token_losses(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each text, summed over its tokens (METHOD E8); float32 ``batch``.

    ``logits`` ``batch length vocabulary``, ``targets`` ids ``batch length``; padding, where ``mask`` is false, counts
    nothing.
    """
    found = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return found.view_as(targets).masked_fill(~mask, 0).sum(1)


def divergence_above(posterior: Posterior, free_bits: float) -> Tensor:
    """Divergence from the standard normal, of each feature at least ``free_bits`` nats (METHOD E8); ``batch``.

    A feature below that has no gradient: what little it tells costs nothing, and nothing pulls it to the prior.
    """
    return feature_divergence(posterior).clamp(min=free_bits).sum(1)


def feature_divergence(posterior: Posterior) -> Tensor:
    """KL divergence of each feature's posterior from the standard normal, nats; float32 ``batch width``."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def cyclical_beta(step: Tensor, cycle: int) -> Tensor:
    """Weight of the divergence in [0, 1] at a training step, counted from 0 (METHOD E8); 1 where ``cycle`` is 0.

    Half of the cycle 0, a quarter a straight climb, the last quarter 1.
    """
    if not cycle:
        return step.new_ones(step.shape).float()
    return (4 * (step % cycle) / cycle - 2).clamp(0, 1)


# The posterior starts narrow (standard deviation 0.05). Fresh weights give means that differ by little more; wide noise
# would drown them for hundreds of steps. The linear map has no bias that could say so.
_START = -6.0


class TextAutoencoder(nn.Module):
    """`Batch` of token ids to a latent and back; see `TextAutoencoderConfig` (METHOD E8).

    The buffer ``steps`` counts the losses taken in training mode; the cyclical weight of the divergence follows it.
    It is part of the state, so a run that is resumed from the state goes on where it was.
    """

    steps: Tensor

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
        """``batch.data`` int64 ids ``batch length``; what they are where ``batch.mask`` is false does not matter.

        Mean and log-variance ``batch latent_width``, from the features of the first token, which is the begin token
        (BERT's [CLS]), or from the mean over all. Raises `UserError` for more tokens than the autoencoder was made for.
        """
        ids, mask = self._checked(batch)
        attended = mask[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        features = self.encoder(input_ids=ids, attention_mask=attended).last_hidden_state
        pooled = features[:, 0] if self._config.pool == "first" else _mean(features, mask)
        mean, logvar = self.to_posterior(pooled).chunk(2, dim=-1)
        return Posterior(mean=mean, logvar=logvar + _START)

    def decode(self, latent: Tensor, how: Decoding | None = None, generators: Sequence[Generator] = ()) -> Batch:
        """Latent ``batch latent_width`` (not scaled) to ids with their mask, begin and end tokens included.

        Greedy unless told otherwise. A random choice draws for each row from its own generator, so that what is
        written for a latent does not depend on its batch. ``modality`` of the result is ``""``: the caller knows.
        """
        with torch.no_grad():
            return write(self.decoder, latent, how or Decoding(), generators)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Terms of METHOD E8, float32, averaged over the batch. All noise comes from ``generator``.

        ``reconstruction``: cross-entropy summed over the tokens of a text. ``kl``: the present weight times the
        divergence, free up to ``free_bits`` per feature.
        """
        config, (ids, mask) = self._config, self._checked(batch)
        posterior = self.encode(batch)
        given = hidden(ids[:, :-1], config.word_dropout if self.training else 0.0, generator)
        logits = self.decoder(given, posterior.draw(generator))
        return {
            "reconstruction": token_losses(logits, ids[:, 1:], mask[:, 1:]).mean(),
            "kl": self._beta() * divergence_above(posterior, config.free_bits).mean(),
        }

    def _beta(self) -> Tensor:
        """Weight of the divergence at this step; counts the step where it is one of training."""
        config = self._config
        weight = config.beta * cyclical_beta(self.steps, config.cycle)
        if self.training:
            self.steps += 1
        return weight

    def _checked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ids with 0 for padding, and the mask; its first column is true, so that no row attends to nothing."""
        ids, limit = batch.data, self._config.length
        if ids.shape[1] > limit:
            raise UserError(
                f"the text autoencoder takes at most {limit} tokens, found {ids.shape[1]}; cut or split them"
            )
        mask = torch.ones_like(ids, dtype=torch.bool) if batch.mask is None else batch.mask.clone()
        mask[:, 0] = True
        return ids.masked_fill(~mask, 0), mask


def _mean(features: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that count, ``batch width``."""
    return features.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


def hidden(ids: Tensor, share: float, generator: Generator) -> Tensor:
    """Ids with a random share of them, the begin token never, replaced by 0, which no text holds."""
    if not share:
        return ids
    hidden = torch.rand(ids.shape, generator=generator, device=generator.device) < share
    hidden[:, 0] = False
    return ids.masked_fill(hidden.to(ids.device), 0)


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
