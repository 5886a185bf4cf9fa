"""Contract checks of a denoiser: noisy latent, level and conditioning to prediction."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from core.testing.checks import CheckContext, NotApplicable, check, forked_rng, generator, randomised, require
from core.testing.context_modules import new_module, probe
from core.types import Conditioning, Context

_WIDTH = 16  # of the contexts that the checks attach


def _predict(denoiser: Any, ctx: CheckContext, conditioning: Conditioning, seed: int = 0) -> Any:
    import torch

    rows = conditioning.prompt.shape[0]
    level = torch.linspace(-3, 3, rows)
    with torch.no_grad():
        return denoiser(ctx.latent(seed, rows), level, conditioning)


def _denoiser(ctx: CheckContext) -> Any:
    return randomised(ctx.part("denoiser"))


def _context(batch: int = 3, length: int = 6, seed: int = 0) -> Context:
    """Noise from a partner; every row uses another number of its tokens."""
    import torch

    return Context(
        tokens=torch.randn(batch, length, _WIDTH, generator=generator(seed + 50)),
        mask=torch.arange(length)[None] < (length - torch.arange(batch) % length)[:, None],
        position_mm=torch.randn(batch, length, 3, generator=generator(seed + 51)) * 50,
        axes=torch.ones(batch, length, 3, dtype=torch.bool),
    )


def _attach_all(denoiser: Any, seed: int = 0) -> dict[str, Any]:
    with forked_rng(seed):
        modules = {site.name: new_module(site, _WIDTH) for site in denoiser.context_sites()}
    for name, module in modules.items():
        denoiser.attach(name, module.eval())
    return modules


@check
def latent_fits_the_autoencoder(ctx: CheckContext) -> None:
    """``latent_shape`` is the shape of the modality's latents."""
    if ctx.parts.autoencoder is None:
        raise NotApplicable("no autoencoder")
    spec, shape = ctx.part("autoencoder").spec, tuple(ctx.part("denoiser").latent_shape)
    require(shape == (spec.channels, *spec.space), f"built for {shape}, the latent is {(spec.channels, *spec.space)}")


@check
def prediction_has_the_latent_shape(ctx: CheckContext) -> None:
    """Input and output have one shape and type, and the output is finite."""
    predicted = _predict(_denoiser(ctx), ctx, ctx.conditioning())
    expected = ctx.latent()
    require(predicted.shape == expected.shape, f"{tuple(expected.shape)} came back as {tuple(predicted.shape)}")
    require(predicted.dtype == expected.dtype and bool(predicted.isfinite().all()), "not finite, or of another type")


@check
def samples_are_independent(ctx: CheckContext) -> None:
    """No sample's prediction depends on the others in its batch, with trained context attention attached."""
    import torch

    denoiser = _denoiser(ctx)
    for module in _attach_all(denoiser).values():
        randomised(module, std=0.2)
    conditioning = replace(ctx.conditioning(), context=_context())
    together, level = _predict(denoiser, ctx, conditioning), torch.linspace(-3, 3, 3)
    for row in range(3):
        with torch.no_grad():
            alone = denoiser(ctx.latent()[row : row + 1], level[row : row + 1], conditioning[row : row + 1])
        gap = _gap(together[row : row + 1], alone)
        require(gap < 1e-4, f"sample {row} is off by {gap:.3g} without the rest of its batch")


@check
def null_token_is_the_unconditional_case(ctx: CheckContext) -> None:
    """With all but token 0 masked, the content of masked tokens has no influence."""
    denoiser, conditioning = _denoiser(ctx), ctx.conditioning()
    mask = _only_first(conditioning.prompt_mask)
    other = conditioning.prompt.clone()
    other[:, 1:] = other[:, 1:].flip(0) * 3 + 1
    null = replace(conditioning, prompt_mask=mask)
    gap = _gap(_predict(denoiser, ctx, null), _predict(denoiser, ctx, replace(null, prompt=other)))
    require(gap <= 1e-6, f"masked prompt tokens change the output by {gap:.3g}")


@check
def padding_changes_nothing(ctx: CheckContext) -> None:
    """Masked tokens after the prompt leave the output unchanged."""
    import torch

    denoiser, conditioning = _denoiser(ctx), ctx.conditioning()
    filler = torch.randn(3, 4, conditioning.prompt.shape[-1], generator=generator(9))
    used = conditioning.prompt_mask
    if used is None:
        used = torch.ones(conditioning.prompt.shape[:2], dtype=torch.bool)
    padded = replace(
        conditioning,
        prompt=torch.cat([conditioning.prompt, filler], 1),
        prompt_mask=torch.cat([used, torch.zeros(3, 4, dtype=torch.bool)], 1),
    )
    gap = _gap(_predict(denoiser, ctx, conditioning), _predict(denoiser, ctx, padded))
    require(gap < 1e-4, f"padding changes the output by {gap:.3g}")


@check
def prompt_and_level_count_after_training(ctx: CheckContext) -> None:
    """After a few training steps both the prompt and the noise level change the output."""
    import torch

    denoiser, conditioning = ctx.part("denoiser").train(), ctx.conditioning()
    noisy, level = ctx.latent(), torch.tensor([-2.0, 0.0, 2.0])
    sign = torch.tensor([1.0, -1.0, 0.5]).view(-1, *[1] * (noisy.ndim - 1))
    optimizer = torch.optim.Adam([p for p in denoiser.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(8):
        loss = (denoiser(noisy, level, conditioning) - sign).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    denoiser.eval()
    with torch.no_grad():
        reference = denoiser(noisy, level, conditioning)
        turned = replace(conditioning, prompt=conditioning.prompt.flip(0))
        prompt_gap = _gap(reference, denoiser(noisy, level, turned))
        level_gap = _gap(reference, denoiser(noisy, level.flip(0), conditioning))
    require(prompt_gap > 1e-6, "another prompt gives the same output")
    require(level_gap > 1e-6, "another noise level gives the same output")


@check
def sites_are_what_they_say(ctx: CheckContext) -> None:
    """There is at least one attention site; names are unique; hidden states have the stated width and grid."""
    import torch

    denoiser = _denoiser(ctx)
    sites = list(denoiser.context_sites())
    require(
        any(site.kind == "attention" for site in sites),
        "no attention site: no recipe that reads contexts by attention could guide it",
    )
    require(len({site.name for site in sites}) == len(sites), "two sites share a name")
    seen: dict[str, tuple[int, ...]] = {}
    for site in sites:
        denoiser.attach(site.name, probe(site, seen))
    with torch.no_grad():
        denoiser(ctx.latent(), torch.zeros(3), replace(ctx.conditioning(), context=_context()))
    for site in sites:
        expected = (3, site.width, *site.grid) if site.kind == "residual" else (3, math.prod(site.grid), site.width)
        require(
            seen.get(site.name) == expected,
            f"site {site.name} has a hidden state {seen.get(site.name)}, declared {expected}",
        )


@check
def attaching_leaves_the_output_bit_equal(ctx: CheckContext) -> None:
    """Fresh modules add exactly their own parameters and change no bit of the output."""
    import torch

    denoiser, conditioning = _denoiser(ctx), ctx.conditioning()
    before, names = _predict(denoiser, ctx, conditioning), {name for name, _ in denoiser.named_parameters()}
    modules = _attach_all(denoiser)
    after = {name for name, _ in denoiser.named_parameters()}
    require(names <= after, f"parameters were renamed: {sorted(names - after)[:3]}")
    expected = sum(1 for module in modules.values() for _ in module.parameters())
    require(len(after - names) == expected, f"{len(after - names)} parameters were added, expected {expected}")
    guided = _predict(denoiser, ctx, replace(conditioning, context=_context()))
    require(torch.equal(before, guided), f"the output changes by {_gap(before, guided):.3g}")


@check
def every_site_counts(ctx: CheckContext) -> None:
    """A trained module at any single site changes the output."""
    import torch

    conditioning = ctx.conditioning()
    guided = replace(conditioning, context=_context())
    for site in _denoiser(ctx).context_sites():
        denoiser = _denoiser(ctx)
        with forked_rng(0):
            module = new_module(site, _WIDTH)
        denoiser.attach(site.name, randomised(module, std=0.5))
        with torch.no_grad():
            gap = _gap(_predict(denoiser, ctx, conditioning), _predict(denoiser, ctx, guided))
        require(gap > 0, f"the module at site {site.name} never reaches the output")


@check
def context_reaches_the_output(ctx: CheckContext) -> None:
    """With trained attached layers another context changes the output; masked context does not."""
    denoiser, conditioning = _denoiser(ctx), ctx.conditioning()
    for module in _attach_all(denoiser).values():
        randomised(module, std=0.2)
    context, other = _context(seed=0), _context(seed=7)
    guided = _predict(denoiser, ctx, replace(conditioning, context=context))
    changed = _predict(denoiser, ctx, replace(conditioning, context=other))
    require(_gap(guided, changed) > 1e-6, "another context gives the same output")
    hidden = replace(context, mask=_only_first(context.mask))
    tokens = other.tokens.clone()
    tokens[:, 0] = context.tokens[:, 0]
    masked = replace(hidden, tokens=tokens, position_mm=other.position_mm)
    gap = _gap(
        _predict(denoiser, ctx, replace(conditioning, context=hidden)),
        _predict(denoiser, ctx, replace(conditioning, context=masked)),
    )
    require(gap <= 1e-6, f"masked context changes the output by {gap:.3g}")


def _only_first(mask: Any) -> Any:
    import torch

    mask = torch.zeros_like(mask)
    mask[:, 0] = True
    return mask


def _gap(first: Any, second: Any) -> float:
    return float((first - second).abs().max())
