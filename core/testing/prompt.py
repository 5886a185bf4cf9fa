"""Laws of a prompt encoder: batch to prompt in the shared space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.testing.laws import Bench, NotApplicable, demand, generator, law, randomised
from core.types import Batch, Prompt


def _encoder(bench: Bench) -> Any:
    return randomised(bench.part("prompt"), std=0.02)


def _encode(encoder: Any, batch: Batch) -> Prompt:
    import torch

    with torch.no_grad():
        return encoder(batch)


def _close(first: Any, second: Any, tolerance: float = 1e-4) -> bool:
    return first.shape == second.shape and float((first - second).abs().max()) <= tolerance


@law
def shapes_fit_the_width(bench: Bench) -> None:
    """Tokens ``batch length width``, pooled ``batch width``, mask bool ``batch length``."""
    import torch

    encoder, batch = _encoder(bench), bench.batch()
    prompt = _encode(encoder, batch)
    rows, length = prompt.mask.shape
    demand(rows == len(batch) and prompt.mask.dtype is torch.bool, f"mask is {prompt.mask.dtype} of {rows} rows")
    demand(prompt.tokens.shape == (rows, length, encoder.width), f"tokens are {tuple(prompt.tokens.shape)}")
    demand(prompt.pooled.shape == (rows, encoder.width), f"pooled is {tuple(prompt.pooled.shape)}")


@law
def pooled_has_unit_norm(bench: Bench) -> None:
    """The pooled vector lies on the unit sphere."""
    norm = _encode(_encoder(bench), bench.batch()).pooled.norm(dim=-1)
    demand(float((norm - 1).abs().max()) < 1e-4, f"norms are {norm.tolist()}")


@law
def null_token_tells_nothing(bench: Bench) -> None:
    """Token 0 is never masked and is the same for every input."""
    prompt = _encode(_encoder(bench), bench.batch())
    demand(bool(prompt.mask[:, 0].all()), "token 0 is masked somewhere")
    spread = (prompt.tokens[:, 0] - prompt.tokens[:1, 0]).abs().max()
    demand(float(spread) <= 1e-5, f"token 0 depends on the input (spread {float(spread):.3g})")


@law
def samples_do_not_mix(bench: Bench) -> None:
    """A sample's prompt is the same without the rest of its batch, and so in any order of it."""
    encoder, batch = _encoder(bench), bench.batch()
    together = _encode(encoder, batch)
    for row in range(len(batch)):
        alone = _encode(encoder, batch[row : row + 1])
        demand(_close(together.pooled[row : row + 1], alone.pooled), f"the pooled vector of sample {row} changes")
        used = alone.mask[..., None]
        tokens = together.tokens[row : row + 1, : alone.tokens.shape[1]]
        demand(_close(tokens * used, alone.tokens * used), f"the tokens of sample {row} change")


@law
def inputs_matter(bench: Bench) -> None:
    """Two different inputs give two different pooled vectors."""
    pooled = _encode(_encoder(bench), bench.batch()).pooled
    demand(float((pooled[0] - pooled[1]).abs().max()) > 1e-6, "different inputs give the same prompt")


@law
def padding_changes_nothing(bench: Bench) -> None:
    """More padding, or other ids in it, leaves the used tokens and the pooled vector as they are."""
    import torch

    batch = bench.batch()
    if batch.mask is None:
        raise NotApplicable("nothing is padded")
    encoder, room = _encoder(bench), bench.parts.data.space[0] - batch.data.shape[1]
    extra = min(3, room)
    filler = torch.randint(0, bench.parts.data.vocabulary or 1, (len(batch), extra), generator=generator(1))
    padded = replace(
        batch,
        data=torch.cat([batch.data.where(batch.mask, torch.ones_like(batch.data)), filler], 1),
        mask=torch.cat([batch.mask, torch.zeros_like(filler, dtype=torch.bool)], 1),
    )
    short, long = _encode(encoder, batch), _encode(encoder, padded)
    demand(_close(short.pooled, long.pooled), "padding changes the pooled vector")
    used = short.mask[..., None]
    length = short.tokens.shape[1]
    demand(_close(short.tokens * used, long.tokens[:, :length] * used), "padding changes used tokens")
    demand(not bool(long.mask[:, length:].any()), "padding is reported as used tokens")


@law
def gradient_reaches_every_parameter(bench: Bench) -> None:
    """A loss on tokens and pooled vector moves every trainable parameter."""
    import torch

    encoder = _encoder(bench).train()
    prompt = encoder(bench.batch())
    weights = torch.randn(prompt.tokens.shape, generator=generator(2))
    direction = torch.randn(prompt.pooled.shape, generator=generator(3))
    used = prompt.mask[..., None]
    (((prompt.tokens * used) * weights).sum() + (prompt.pooled * direction).sum()).backward()
    idle = [name for name, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    demand(not idle, f"no gradient reaches {', '.join(idle[:5])}")
