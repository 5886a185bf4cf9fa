"""The decoder of the text autoencoder, and how it writes a text id by id (method E8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Generator, Tensor, nn
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from core.errors import UserError
from core.nn.autoencoders.decoding import Decoding
from core.nn.pretrained import load_gpt2

if TYPE_CHECKING:
    from core.nn.autoencoders.config import TextAutoencoderConfig

PAD, BEGIN, END = 0, 1, 2


class LatentDecoder(nn.Module):
    """A GPT-2 that maps ids and a latent to the logits of the next ids (method E8). The latent enters twice.

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
                activation_function="gelu_pytorch_tanh",  # gelu_new, GPT-2's, in one operation
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
        """Return logits ``batch length vocabulary`` after each of the ids ``batch length``, padded on the right."""
        return self.advance(ids, latent, self.memory(latent))

    def memory(self, latent: Tensor) -> DynamicCache:
        """Return the cache that a text begins with: one position in every layer."""
        slices = self.to_memory(latent).unflatten(-1, (self.network.config.n_layer, self.num_heads, 1, -1))
        cache = DynamicCache()
        for index, piece in enumerate(slices.unbind(1)):
            cache.update(piece, piece, index)
        return cache

    def advance(self, ids: Tensor, latent: Tensor, cache: DynamicCache) -> Tensor:
        """Return the logits after each of the ids, which follow those in the cache, and add them to the cache."""
        start = cache.get_seq_length() - 1
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        # The memory precedes position 0. With a full mask the library does not test whether all of it is true.
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
    """Return the standard deviation of fresh weights: the published 0.02 at width 768, and its gain elsewhere."""
    return 0.02 * (768 / width) ** 0.5


def write_ids(decoder: LatentDecoder, latent: Tensor, how: Decoding, generators: Sequence[Generator] = ()) -> Tensor:
    """Decode to ids ``row length``, padded on the right: begin, the ids that the decoder chooses, end.

    There are ``how.candidates`` rows for each latent, next to each other. A random choice takes one generator per
    latent; `UserError` for another number of them.
    """
    if how.random and len(generators) != len(latent):
        raise UserError(f"a random choice needs one generator per text: {len(latent)}, found {len(generators)}")
    if how.beams > 1:
        return beam_search(decoder, latent, how)
    repeated = [generator for generator in generators for _ in range(how.candidates)]
    return _token_by_token(decoder, latent.repeat_interleave(how.candidates, 0), how, repeated)


def _token_by_token(decoder: LatentDecoder, latent: Tensor, how: Decoding, generators: Sequence[Generator]) -> Tensor:
    ids, running = _begun(latent)
    writer = _Writer(decoder, latent, how)
    while ids.shape[1] < decoder.length - 1 and running.any():
        scores = writer.next_scores(ids)
        new = draw_tokens(scores, how, generators) if how.random else scores.argmax(-1)
        new = new.masked_fill(~running, PAD)
        running = running & (new != END)
        ids = torch.cat([ids, new[:, None]], 1)
    return _ended(ids, running)


def beam_search(decoder: LatentDecoder, latent: Tensor, how: Decoding) -> Tensor:
    """Return the ids ``row length`` of the ``how.candidates`` most likely texts of each latent, the likeliest first."""
    rows, beams = len(latent), how.beams
    latent = latent.repeat_interleave(beams, 0)
    ids, running = _begun(latent)
    writer = _Writer(decoder, latent, how)
    # At first all beams of a row are equal: only the first may continue.
    total = torch.where(torch.arange(rows * beams, device=latent.device) % beams == 0, 0.0, -torch.inf)
    first = torch.arange(0, rows * beams, beams, device=latent.device)[:, None]
    while ids.shape[1] < decoder.length - 1 and running.any():
        scores = torch.where(running[:, None], writer.next_scores(ids), -torch.inf)
        scores[:, PAD] = scores[:, PAD].masked_fill(~running, 0)  # a finished text continues unchanged at no cost
        best = (total[:, None] + scores).view(rows, -1).topk(beams)
        parent = (first + best.indices // scores.shape[1]).flatten()
        new = (best.indices % scores.shape[1]).flatten()
        total, ids, running = best.values.flatten(), torch.cat([ids[parent], new[:, None]], 1), running[parent]
        running = running & (new != END)
        writer.reorder(parent)
    # topk sorts: the best of a latent are its first.
    ids = _ended(ids, running)[(first + torch.arange(how.candidates, device=ids.device)).flatten()]
    return ids[:, : int((ids != PAD).sum(1).max())]


class _Writer:
    """Score the next ids of texts that are being written, one id of each at a time."""

    def __init__(self, decoder: LatentDecoder, latent: Tensor, how: Decoding) -> None:
        self._decoder, self._how = decoder, how
        # The second half of the rows is the same texts without latent.
        self._latent = torch.cat([latent, torch.zeros_like(latent)]) if how.language else latent
        self._cache = decoder.memory(self._latent)

    def next_scores(self, ids: Tensor) -> Tensor:
        """Return the scores ``row vocabulary`` of what follows ``ids`` ``row position``; all but the last are read."""
        last = ids[:, -1:].repeat(len(self._latent) // len(ids), 1)
        every = self._decoder.advance(last, self._latent, self._cache)[:, -1].chunk(len(last) // len(ids))
        scores = [_allowed(each, ids, self._how).log_softmax(-1) for each in every]
        return fused_scores(scores[0], scores[1], self._how.language) if self._how.language else scores[0]

    def reorder(self, parents: Tensor) -> None:
        """Let every row continue the text of its parent."""
        rows = torch.cat([parents + start for start in range(0, len(self._latent), len(parents))])
        self._cache.reorder_cache(cast(torch.LongTensor, rows))


def fused_scores(scores: Tensor, language_scores: Tensor, weight: float) -> Tensor:
    """Return ``log p(id | latent) + weight * log p(id)`` of log-probabilities (Gulcehre et al. 2015, Eq. 5)."""
    return scores + weight * language_scores


def repeating_ids(ids: Tensor, length: int) -> Tensor:
    """Return the ids ``row _`` that would complete a sequence of ``length`` ids for the second time, with 0 between.

    ``ids`` ``row position`` are those of the texts so far (Paulus et al. 2018, section 2.5).
    """
    if ids.shape[1] < length:
        return ids.new_zeros(len(ids), 1)
    earlier, last = ids.unfold(1, length, 1), ids[:, ids.shape[1] - length + 1 :]
    return earlier[..., -1].masked_fill((earlier[..., :-1] != last[:, None]).any(-1), PAD)


def draw_tokens(scores: Tensor, how: Decoding, generators: Sequence[Generator]) -> Tensor:
    """Draw ids ``batch`` from the ``top_k`` most likely, and of those from the fewest that make up ``top_p``."""
    chance = (scores.float() / how.temperature).softmax(-1)
    chance, order = chance.sort(dim=-1, descending=True, stable=True)
    if how.top_k is not None:
        chance[:, how.top_k :] = 0
    if how.top_p is not None:
        normalised = chance / chance.sum(-1, keepdim=True)
        chance = chance.masked_fill(normalised.cumsum(-1) - normalised >= how.top_p, 0)
    # One number per row from a generator of that row: a draw does not depend on the batch.
    draws = [torch.rand(1, generator=generator, device=generator.device).to(chance.device) for generator in generators]
    reached = chance.cumsum(-1)
    rank = (reached <= torch.stack(draws) * reached[:, -1:]).sum(-1, keepdim=True)
    return order.gather(1, rank).squeeze(1)


def _begun(latent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the begin token of every row, and a mask that marks all rows as unfinished."""
    ids = torch.full((len(latent), 1), BEGIN, dtype=torch.int64, device=latent.device)
    return ids, torch.ones(len(latent), dtype=torch.bool, device=latent.device)


def _allowed(scores: Tensor, ids: Tensor, how: Decoding) -> Tensor:
    """Return scores without padding and begin, which are not part of a text, and without what may not repeat."""
    scores = torch.cat([torch.full_like(scores[:, :END], -torch.inf), scores[:, END:]], 1)
    return scores.scatter(1, repeating_ids(ids, how.no_repeat), -torch.inf) if how.no_repeat else scores


def _ended(ids: Tensor, running: Tensor) -> Tensor:
    """Append an end token to the rows without one."""
    return torch.cat([ids, torch.where(running, END, PAD)[:, None]], 1) if running.any() else ids
