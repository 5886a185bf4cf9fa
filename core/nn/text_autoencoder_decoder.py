"""The decoder of the text autoencoder: a GPT-2 that a latent enters twice (METHOD E8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from core.nn.pretrained import load_gpt2

if TYPE_CHECKING:
    from core.nn.text_autoencoders import TextAutoencoderConfig


class LatentDecoder(nn.Module):
    """Ids and a latent to the logits of the next ids (METHOD E8).

    *Memory*: every layer gets its slice of a linear map as one extra past position, key and value alike.
    *Embedding*: another linear map is added to every token's embedding.
    """

    def __init__(self, config: TextAutoencoderConfig) -> None:
        super().__init__()
        width, depth, num_heads = config.decoder_sizes
        self.length, self.num_heads = config.length, num_heads
        self.network = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=config.vocabulary,
                n_positions=config.length,
                n_embd=width,
                n_layer=depth,
                n_head=num_heads,
                initializer_range=start_std(width),
                resid_pdrop=0.0,  # the library's dropout draws from the global random state
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=cast(int, None),
                eos_token_id=cast(int, None),
            )
        )
        if config.decoder_from is not None:
            load_gpt2(self.network.transformer, config.decoder_from, config.length)
        self.to_memory = nn.Linear(config.latent_width, width * depth, bias=False)
        self.to_embedding = nn.Linear(config.latent_width, width, bias=False)

    def forward(self, ids: Tensor, latent: Tensor) -> Tensor:
        """Logits ``batch length vocabulary`` after each of the ids ``batch length``; right padding does no harm."""
        return self.advance(ids, latent, self.memory(latent))

    def memory(self, latent: Tensor) -> DynamicCache:
        """The cache that a text begins with: one position in every layer."""
        slices = self.to_memory(latent).unflatten(-1, (self.network.config.n_layer, self.num_heads, 1, -1))
        cache = DynamicCache()
        for index, piece in enumerate(slices.unbind(1)):
            cache.update(piece, piece, index)
        return cache

    def advance(self, ids: Tensor, latent: Tensor, cache: DynamicCache) -> Tensor:
        """Logits after each of the ids, which stand behind those in the cache; they are added to it."""
        start = cache.get_seq_length() - 1
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        # The memory stands before position 0. Given in full, the library asks no mask whether it is all true.
        keys = torch.arange(-1, start + ids.shape[1], device=ids.device)
        embedded = self.network.transformer.wte(ids) + self.to_embedding(latent)[:, None]
        hidden = self.network.transformer(
            inputs_embeds=embedded,
            position_ids=positions[None],
            past_key_values=cache,
            attention_mask=(keys <= positions[:, None])[None, None].expand(len(ids), 1, -1, -1),
            use_cache=True,
        ).last_hidden_state
        return self.network.lm_head(hidden)


def start_std(width: int) -> float:
    """Standard deviation of fresh weights: the published 0.02 at width 768, and the same gain at other widths."""
    return 0.02 * (768 / width) ** 0.5
