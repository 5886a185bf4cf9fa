"""Contract checks of an autoencoder: batch to latent and back."""

from __future__ import annotations

import math
from typing import Any

from core.encode.latents import fit_scale, scaled
from core.testing.checks import CheckContext, check, generator, random_state, randomised, require
from core.types import Batch, LatentSpec

_STEPS = 50


def _autoencoder(ctx: CheckContext) -> Any:
    return ctx.part("autoencoder").eval()


@check
def latent_has_the_declared_shape(ctx: CheckContext) -> None:
    """Mean and log-variance are ``batch channel *space`` of the `LatentSpec`."""
    autoencoder, batch = _autoencoder(ctx), ctx.batch()
    posterior = autoencoder.encode(batch)
    expected = (len(batch), autoencoder.spec.channels, *autoencoder.spec.space)
    for name in ("mean", "logvar"):
        shape = tuple(getattr(posterior, name).shape)
        require(shape == expected, f"{name} is {shape}, the spec says {expected}")


@check
def latent_has_unit_variance_after_scaling(ctx: CheckContext) -> None:
    """`fit_scale` can measure the latents, and scaled they have mean 0 and variance 1 per channel (method E7)."""
    import torch

    autoencoder = _autoencoder(ctx)
    with torch.no_grad():
        mean = autoencoder.encode(ctx.batch()).mean
    latent = scaled(mean, _fitted(autoencoder.spec, mean)).double().movedim(1, -1).flatten(0, -2)
    require(float(latent.mean(0).abs().max()) < 1e-2, "a scaled channel has a mean other than 0")
    require(float((latent.var(0, correction=0) - 1).abs().max()) < 1e-2, "a scaled channel has a variance other than 1")


def _fitted(spec: LatentSpec, mean: Any) -> LatentSpec:
    require(bool(mean.isfinite().all()), "the latents are not finite")
    rows = mean.movedim(1, -1).flatten(0, -2)
    constant = (rows.std(0) < 1e-6).nonzero().flatten().tolist()
    require(not constant, f"latent channels {constant} are constant: they carry no information")
    return fit_scale(spec, [mean])


@check
def decoding_keeps_the_data_spec(ctx: CheckContext) -> None:
    """``decode(encode(x))`` is a finite batch of the same size, shape and type."""
    import torch

    autoencoder, batch = _autoencoder(ctx), ctx.batch()
    with torch.no_grad():
        decoded = autoencoder.decode(autoencoder.encode(batch).mean)
    require(isinstance(decoded, Batch), f"decode() returns a {type(decoded).__name__}, expected a Batch")
    if ctx.parts.data.kind == "tokens":
        vocabulary, longest = ctx.parts.data.vocabulary or 0, ctx.parts.data.space[0]
        require(decoded.data.dtype is torch.int64, f"decoded ids are {decoded.data.dtype}")
        require(len(decoded) == len(batch) and decoded.data.shape[1] <= longest, f"decoded {tuple(decoded.data.shape)}")
        require(bool((decoded.data >= 0).all() and (decoded.data < vocabulary).all()), "an id outside the vocabulary")
        return
    require(
        decoded.data.shape == batch.data.shape, f"{tuple(batch.data.shape)} came back as {tuple(decoded.data.shape)}"
    )
    require(decoded.data.dtype is torch.float32, f"decoded data is {decoded.data.dtype}")
    require(bool(decoded.data.isfinite().all()), "decoded data is not finite")


@check
def samples_do_not_mix(ctx: CheckContext) -> None:
    """Neither a sample's latent nor what it decodes to depends on the others in its batch."""
    import torch

    autoencoder, batch = randomised(_autoencoder(ctx)), ctx.batch()
    with torch.no_grad():
        together = autoencoder.encode(batch)
        decoded = autoencoder.decode(together.mean)
        for row in range(len(batch)):
            single = slice(row, row + 1)
            alone = autoencoder.encode(batch[single])
            for name in ("mean", "logvar"):
                gap = float((getattr(together, name)[single] - getattr(alone, name)).abs().max())
                require(gap < 1e-3, f"the {name} of sample {row} is off by {gap:.3g} without the rest of its batch")
            if decoded.data.is_floating_point():
                gap = float((decoded.data[single] - autoencoder.decode(together.mean[single]).data).abs().max())
                require(gap < 1e-3, f"sample {row} decodes differently without the rest of its batch (by {gap:.3g})")


@check
def decoding_is_deterministic(ctx: CheckContext) -> None:
    """One latent decodes to one result, and two latents to two."""
    import torch

    autoencoder, batch = randomised(_autoencoder(ctx)), ctx.batch()
    with torch.no_grad():
        mean = autoencoder.encode(batch).mean
        first, second = autoencoder.decode(mean), autoencoder.decode(mean)
        require(torch.equal(first.data, second.data), "one latent decodes to two results")
        if first.data.is_floating_point():
            other = autoencoder.decode(mean.flip(0) * 3)
            require(not torch.equal(first.data, other.data), "two latents decode to one result")


@check
def loss_draws_from_its_generator(ctx: CheckContext) -> None:
    """The generator decides the loss; no global random state moves."""
    autoencoder, batch = _autoencoder(ctx), ctx.batch()
    before = random_state()
    first = _total(autoencoder.loss(batch, generator(1)))
    require(random_state() == before, "a global random state moved")
    require(first == _total(autoencoder.loss(batch, generator(1))), "one generator state gave two losses")


@check
def loss_terms_are_named_and_finite(ctx: CheckContext) -> None:
    """``loss`` returns a dictionary of finite scalars, at least one of which has a gradient."""
    terms = ctx.part("autoencoder").train().loss(ctx.batch(), generator(0))
    require(isinstance(terms, dict) and bool(terms), f"loss() returns {type(terms).__name__}, expected named terms")
    for name, value in terms.items():
        require(value.ndim == 0 and math.isfinite(float(value.detach())), f"the term '{name}' is not a finite scalar")
    require(any(value.requires_grad for value in terms.values()), "no term has a gradient")


@check
def loss_falls(ctx: CheckContext) -> None:
    """Fifty small steps on one batch, with the same draws in each, lower the loss."""
    import torch

    autoencoder, batch = ctx.part("autoencoder").train(), ctx.batch()
    trainable = [p for p in autoencoder.parameters() if p.requires_grad]
    require(bool(trainable), "nothing is trainable")
    optimizer = torch.optim.Adam(trainable, lr=1e-3)
    losses = []
    for _ in range(_STEPS):
        loss = sum(autoencoder.loss(batch, generator(0)).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    first, last = losses[0], losses[-1]
    require(last < first, f"loss went from {first:.4g} to {last:.4g} in {_STEPS} steps")


def _total(terms: dict[str, Any]) -> float:
    return float(sum(value.detach() for value in terms.values()))
