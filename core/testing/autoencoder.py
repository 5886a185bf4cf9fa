"""Laws of an autoencoder: batch to latent and back."""

from __future__ import annotations

import math
from typing import Any

from core.encode.latents import fit_scale, scaled
from core.testing.laws import Bench, demand, generator, law, random_state, randomised
from core.types import Batch, LatentSpec

_STEPS = 50


def _autoencoder(bench: Bench) -> Any:
    return bench.part("autoencoder").eval()


@law
def latent_has_the_declared_shape(bench: Bench) -> None:
    """Mean and log-variance are ``batch channel *space`` of the `LatentSpec`."""
    autoencoder, batch = _autoencoder(bench), bench.batch()
    posterior = autoencoder.encode(batch)
    expected = (len(batch), autoencoder.spec.channels, *autoencoder.spec.space)
    for name in ("mean", "logvar"):
        found = tuple(getattr(posterior, name).shape)
        demand(found == expected, f"{name} is {found}, the spec says {expected}")


@law
def latent_has_unit_variance_after_scaling(bench: Bench) -> None:
    """`fit_scale` can measure the latents, and scaled they have mean 0 and variance 1 per channel (METHOD E7)."""
    import torch

    autoencoder = _autoencoder(bench)
    with torch.no_grad():
        mean = autoencoder.encode(bench.batch()).mean
    latent = scaled(mean, _fitted(autoencoder.spec, mean)).double().movedim(1, -1).flatten(0, -2)
    demand(float(latent.mean(0).abs().max()) < 1e-2, "a scaled channel has a mean other than 0")
    demand(float((latent.var(0, correction=0) - 1).abs().max()) < 1e-2, "a scaled channel has a variance other than 1")


def _fitted(spec: LatentSpec, mean: Any) -> LatentSpec:
    demand(bool(mean.isfinite().all()), "the latents are not finite")
    rows = mean.movedim(1, -1).flatten(0, -2)
    constant = (rows.std(0) < 1e-6).nonzero().flatten().tolist()
    demand(not constant, f"latent channels {constant} are constant: they carry nothing")
    return fit_scale(spec, [mean])


@law
def decoding_keeps_the_data_spec(bench: Bench) -> None:
    """``decode(encode(x))`` is a finite batch of the same size, shape and type."""
    import torch

    autoencoder, batch = _autoencoder(bench), bench.batch()
    with torch.no_grad():
        decoded = autoencoder.decode(autoencoder.encode(batch).mean)
    demand(isinstance(decoded, Batch), f"decode() returns a {type(decoded).__name__}, expected a Batch")
    if bench.parts.data.kind == "tokens":
        vocabulary, longest = bench.parts.data.vocabulary or 0, bench.parts.data.space[0]
        demand(decoded.data.dtype is torch.int64, f"decoded ids are {decoded.data.dtype}")
        demand(len(decoded) == len(batch) and decoded.data.shape[1] <= longest, f"decoded {tuple(decoded.data.shape)}")
        demand(bool((decoded.data >= 0).all() and (decoded.data < vocabulary).all()), "an id outside the vocabulary")
        return
    demand(decoded.data.shape == batch.data.shape, f"{tuple(batch.data.shape)} came back {tuple(decoded.data.shape)}")
    demand(decoded.data.dtype is torch.float32, f"decoded data is {decoded.data.dtype}")
    demand(bool(decoded.data.isfinite().all()), "decoded data is not finite")


@law
def samples_do_not_mix(bench: Bench) -> None:
    """Neither a sample's latent nor what it decodes to depends on the others in its batch."""
    import torch

    autoencoder, batch = randomised(_autoencoder(bench)), bench.batch()
    with torch.no_grad():
        together = autoencoder.encode(batch)
        decoded = autoencoder.decode(together.mean)
        for row in range(len(batch)):
            one = slice(row, row + 1)
            alone = autoencoder.encode(batch[one])
            for name in ("mean", "logvar"):
                gap = float((getattr(together, name)[one] - getattr(alone, name)).abs().max())
                demand(gap < 1e-3, f"the {name} of sample {row} is off by {gap:.3g} without the rest of its batch")
            if decoded.data.is_floating_point():
                gap = float((decoded.data[one] - autoencoder.decode(together.mean[one]).data).abs().max())
                demand(gap < 1e-3, f"sample {row} decodes differently without the rest of its batch (by {gap:.3g})")


@law
def decoding_is_deterministic(bench: Bench) -> None:
    """One latent decodes to one result, and two latents to two."""
    import torch

    autoencoder, batch = randomised(_autoencoder(bench)), bench.batch()
    with torch.no_grad():
        mean = autoencoder.encode(batch).mean
        first, second = autoencoder.decode(mean), autoencoder.decode(mean)
        demand(torch.equal(first.data, second.data), "one latent decodes to two results")
        if first.data.is_floating_point():
            other = autoencoder.decode(mean.flip(0) * 3)
            demand(not torch.equal(first.data, other.data), "two latents decode to one result")


@law
def loss_draws_from_its_generator(bench: Bench) -> None:
    """The generator decides the loss; no global random state moves."""
    autoencoder, batch = _autoencoder(bench), bench.batch()
    before = random_state()
    first = _total(autoencoder.loss(batch, generator(1)))
    demand(random_state() == before, "a global random state moved")
    demand(first == _total(autoencoder.loss(batch, generator(1))), "one generator state gave two losses")


@law
def loss_terms_are_named_and_finite(bench: Bench) -> None:
    """``loss`` gives a dictionary of finite scalars, one of which at least has a gradient."""
    terms = bench.part("autoencoder").train().loss(bench.batch(), generator(0))
    demand(isinstance(terms, dict) and bool(terms), f"loss() returns {type(terms).__name__}, expected named terms")
    for name, value in terms.items():
        demand(value.ndim == 0 and math.isfinite(float(value.detach())), f"the term '{name}' is not a finite scalar")
    demand(any(value.requires_grad for value in terms.values()), "no term has a gradient")


@law
def loss_falls(bench: Bench) -> None:
    """Fifty small steps on one batch, with the same draws in each, lower the loss."""
    import torch

    autoencoder, batch = bench.part("autoencoder").train(), bench.batch()
    trainable = [p for p in autoencoder.parameters() if p.requires_grad]
    demand(bool(trainable), "nothing is trainable")
    optimizer = torch.optim.Adam(trainable, lr=1e-3)
    losses = []
    for _ in range(_STEPS):
        loss = sum(autoencoder.loss(batch, generator(0)).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    first, last = losses[0], losses[-1]
    demand(last < first, f"loss went from {first:.4g} to {last:.4g} in {_STEPS} steps")


def _total(terms: dict[str, Any]) -> float:
    return float(sum(value.detach() for value in terms.values()))
