"""Contract checks of a prompt encoder: batch to prompt in the shared space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.contract.modality import token_width
from core.testing.checks import CheckContext, NotApplicable, check, generator, randomised, require
from core.types import Batch, Prompt


def _encoder(ctx: CheckContext) -> Any:
    return randomised(ctx.part("prompt"), std=0.02)


def _encode(encoder: Any, batch: Batch) -> Prompt:
    import torch

    with torch.no_grad():
        return encoder(batch)


def _close(first: Any, second: Any, tolerance: float = 1e-4) -> bool:
    return first.shape == second.shape and float((first - second).abs().max()) <= tolerance


@check
def shapes_fit_the_width(ctx: CheckContext) -> None:
    """Tokens ``batch length token_width``, pooled ``batch width``, mask bool ``batch length``."""
    import torch

    encoder, batch = _encoder(ctx), ctx.batch()
    prompt = _encode(encoder, batch)
    rows, length = prompt.mask.shape
    require(rows == len(batch) and prompt.mask.dtype is torch.bool, f"mask is {prompt.mask.dtype} of {rows} rows")
    require(prompt.tokens.shape == (rows, length, token_width(encoder)), f"tokens are {tuple(prompt.tokens.shape)}")
    require(prompt.pooled.shape == (rows, encoder.width), f"pooled is {tuple(prompt.pooled.shape)}")


@check
def pooled_has_unit_norm(ctx: CheckContext) -> None:
    """The pooled vector lies on the unit sphere."""
    norm = _encode(_encoder(ctx), ctx.batch()).pooled.norm(dim=-1)
    require(float((norm - 1).abs().max()) < 1e-4, f"norms are {norm.tolist()}")


@check
def null_token_tells_nothing(ctx: CheckContext) -> None:
    """Token 0 is never masked and is the same for every input."""
    prompt = _encode(_encoder(ctx), ctx.batch())
    require(bool(prompt.mask[:, 0].all()), "token 0 is masked somewhere")
    spread = (prompt.tokens[:, 0] - prompt.tokens[:1, 0]).abs().max()
    require(float(spread) <= 1e-5, f"token 0 depends on the input (spread {float(spread):.3g})")


@check
def samples_do_not_mix(ctx: CheckContext) -> None:
    """A sample's prompt does not depend on the rest of its batch or on the order of the batch."""
    encoder, batch = _encoder(ctx), ctx.batch()
    together = _encode(encoder, batch)
    for row in range(len(batch)):
        alone = _encode(encoder, batch[row : row + 1])
        require(_close(together.pooled[row : row + 1], alone.pooled), f"the pooled vector of sample {row} changes")
        used = alone.mask[..., None]
        tokens = together.tokens[row : row + 1, : alone.tokens.shape[1]]
        require(_close(tokens * used, alone.tokens * used), f"the tokens of sample {row} change")


@check
def inputs_matter(ctx: CheckContext) -> None:
    """Two different inputs give two different pooled vectors."""
    pooled = _encode(_encoder(ctx), ctx.batch()).pooled
    require(float((pooled[0] - pooled[1]).abs().max()) > 1e-6, "different inputs give the same prompt")


@check
def padding_changes_nothing(ctx: CheckContext) -> None:
    """More padding, or other ids in it, leaves the used tokens and the pooled vector unchanged."""
    import torch

    batch = ctx.batch()
    if batch.mask is None:
        raise NotApplicable("batches are not padded")
    encoder, room = _encoder(ctx), ctx.parts.data.space[0] - batch.data.shape[1]
    extra = min(3, room)
    filler = torch.randint(0, ctx.parts.data.vocabulary or 1, (len(batch), extra), generator=generator(1))
    padded = replace(
        batch,
        data=torch.cat([batch.data.where(batch.mask, torch.ones_like(batch.data)), filler], 1),
        mask=torch.cat([batch.mask, torch.zeros_like(filler, dtype=torch.bool)], 1),
    )
    short, long = _encode(encoder, batch), _encode(encoder, padded)
    require(_close(short.pooled, long.pooled), "padding changes the pooled vector")
    used = short.mask[..., None]
    length = short.tokens.shape[1]
    require(_close(short.tokens * used, long.tokens[:, :length] * used), "padding changes used tokens")
    require(not bool(long.mask[:, length:].any()), "padding is reported as used tokens")


@check
def gradient_reaches_every_parameter(ctx: CheckContext) -> None:
    """A loss on tokens and pooled vector moves every trainable parameter."""
    import torch

    encoder = _encoder(ctx).train()
    prompt = encoder(ctx.batch())
    weights = torch.randn(prompt.tokens.shape, generator=generator(2))
    direction = torch.randn(prompt.pooled.shape, generator=generator(3))
    used = prompt.mask[..., None]
    (((prompt.tokens * used) * weights).sum() + (prompt.pooled * direction).sum()).backward()
    idle = [name for name, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    require(not idle, f"no gradient reaches {', '.join(idle[:5])}")
