"""Laws of a denoiser: noisy latent, level and conditioning to prediction."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from core.nn import ContextAttention
from core.testing.laws import Bench, NotApplicable, demand, generator, law, randomised, seeded
from core.types import Conditioning, Context

_WIDTH = 16  # of the contexts that the laws attach


def _predict(denoiser: Any, bench: Bench, conditioning: Conditioning, seed: int = 0) -> Any:
    import torch

    rows = conditioning.prompt.shape[0]
    level = torch.linspace(-3, 3, rows)
    with torch.no_grad():
        return denoiser(bench.latent(seed, rows), level, conditioning)


def _denoiser(bench: Bench) -> Any:
    return randomised(bench.part("denoiser"))


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
    with seeded(seed):
        modules = {site.name: ContextAttention(site.width, _WIDTH, 1) for site in denoiser.context_sites()}
    for name, module in modules.items():
        denoiser.attach(name, module.eval())
    return modules


@law
def latent_fits_the_autoencoder(bench: Bench) -> None:
    """``latent_shape`` is the shape of the modality's own latents."""
    if bench.parts.autoencoder is None:
        raise NotApplicable("no autoencoder")
    spec, shape = bench.part("autoencoder").spec, tuple(bench.part("denoiser").latent_shape)
    demand(shape == (spec.channels, *spec.space), f"built for {shape}, the latent is {(spec.channels, *spec.space)}")


@law
def prediction_has_the_latent_shape(bench: Bench) -> None:
    """Input and output have one shape and type, and the output is finite."""
    predicted = _predict(_denoiser(bench), bench, bench.conditioning())
    expected = bench.latent()
    demand(predicted.shape == expected.shape, f"{tuple(expected.shape)} came back as {tuple(predicted.shape)}")
    demand(predicted.dtype == expected.dtype and bool(predicted.isfinite().all()), "not finite, or of another type")


@law
def samples_are_independent(bench: Bench) -> None:
    """No sample's prediction depends on the others in its batch, with context attention trained and at work."""
    import torch

    denoiser = _denoiser(bench)
    for module in _attach_all(denoiser).values():
        randomised(module, std=0.2)
    conditioning = replace(bench.conditioning(), context=_context())
    together, level = _predict(denoiser, bench, conditioning), torch.linspace(-3, 3, 3)
    for row in range(3):
        with torch.no_grad():
            alone = denoiser(bench.latent()[row : row + 1], level[row : row + 1], _row(conditioning, row))
        gap = _gap(together[row : row + 1], alone)
        demand(gap < 1e-4, f"sample {row} is off by {gap:.3g} without the rest of its batch")


def _row(conditioning: Conditioning, row: int) -> Conditioning:
    """The conditioning of one sample alone."""

    def chosen(value: Any) -> Any:
        return None if value is None else value[row : row + 1]

    context = conditioning.context
    return Conditioning(
        prompt=chosen(conditioning.prompt),
        prompt_mask=chosen(conditioning.prompt_mask),
        pooled=chosen(conditioning.pooled),
        context=None
        if context is None
        else Context(
            tokens=chosen(context.tokens),
            mask=chosen(context.mask),
            position_mm=chosen(context.position_mm),
            axes=chosen(context.axes),
        ),
    )


@law
def null_token_is_the_unconditional_case(bench: Bench) -> None:
    """With all but token 0 masked, what the masked tokens hold has no influence."""
    denoiser, conditioning = _denoiser(bench), bench.conditioning()
    mask = _only_first(conditioning.prompt_mask)
    other = conditioning.prompt.clone()
    other[:, 1:] = other[:, 1:].flip(0) * 3 + 1
    null = replace(conditioning, prompt_mask=mask)
    gap = _gap(_predict(denoiser, bench, null), _predict(denoiser, bench, replace(null, prompt=other)))
    demand(gap <= 1e-6, f"masked prompt tokens change the output by {gap:.3g}")


@law
def padding_changes_nothing(bench: Bench) -> None:
    """Masked tokens behind the prompt leave the output as it is."""
    import torch

    denoiser, conditioning = _denoiser(bench), bench.conditioning()
    filler = torch.randn(3, 4, conditioning.prompt.shape[-1], generator=generator(9))
    used = conditioning.prompt_mask
    if used is None:
        used = torch.ones(conditioning.prompt.shape[:2], dtype=torch.bool)
    padded = replace(
        conditioning,
        prompt=torch.cat([conditioning.prompt, filler], 1),
        prompt_mask=torch.cat([used, torch.zeros(3, 4, dtype=torch.bool)], 1),
    )
    gap = _gap(_predict(denoiser, bench, conditioning), _predict(denoiser, bench, padded))
    demand(gap < 1e-4, f"padding changes the output by {gap:.3g}")


@law
def prompt_and_level_count_after_training(bench: Bench) -> None:
    """After a few steps towards a target that the prompt and the level decide, both change the output."""
    import torch

    denoiser, conditioning = bench.part("denoiser").train(), bench.conditioning()
    noisy, level = bench.latent(), torch.tensor([-2.0, 0.0, 2.0])
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
    demand(prompt_gap > 1e-6, "another prompt gives the same output")
    demand(level_gap > 1e-6, "another noise level gives the same output")


@law
def sites_are_what_they_say(bench: Bench) -> None:
    """There is a site; names are unique; the hidden tokens there have the stated width and grid."""
    import torch

    denoiser = _denoiser(bench)
    sites = list(denoiser.context_sites())
    demand(bool(sites), "no site: partners could not reach this denoiser")
    demand(len({site.name for site in sites}) == len(sites), "two sites share a name")
    seen: dict[str, tuple[int, ...]] = {}
    for site in sites:
        denoiser.attach(site.name, _Probe(site.name, seen))
    with torch.no_grad():
        denoiser(bench.latent(), torch.zeros(3), replace(bench.conditioning(), context=_context()))
    for site in sites:
        expected = (3, math.prod(site.grid), site.width)
        demand(seen.get(site.name) == expected, f"site {site.name} sees {seen.get(site.name)}, it says {expected}")


@law
def attaching_leaves_the_output_bit_equal(bench: Bench) -> None:
    """Fresh context attention adds exactly its own parameters and changes no bit of the output."""
    import torch

    denoiser, conditioning = _denoiser(bench), bench.conditioning()
    before, names = _predict(denoiser, bench, conditioning), {name for name, _ in denoiser.named_parameters()}
    modules = _attach_all(denoiser)
    after = {name for name, _ in denoiser.named_parameters()}
    demand(names <= after, f"parameters were renamed: {sorted(names - after)[:3]}")
    expected = sum(1 for module in modules.values() for _ in module.parameters())
    demand(len(after - names) == expected, f"{len(after - names)} parameters were added, expected {expected}")
    guided = _predict(denoiser, bench, replace(conditioning, context=_context()))
    demand(torch.equal(before, guided), f"the output changes by {_gap(before, guided):.3g}")


@law
def every_site_counts(bench: Bench) -> None:
    """What is attached at one site alone, and trained, changes the output."""
    import torch

    conditioning = bench.conditioning()
    guided = replace(conditioning, context=_context())
    for site in _denoiser(bench).context_sites():
        denoiser = _denoiser(bench)
        with seeded(0):
            module = ContextAttention(site.width, _WIDTH, 1)
        denoiser.attach(site.name, randomised(module, std=0.5))
        with torch.no_grad():
            gap = _gap(_predict(denoiser, bench, conditioning), _predict(denoiser, bench, guided))
        demand(gap > 0, f"what is attached at site {site.name} never reaches the output")


@law
def context_reaches_the_output(bench: Bench) -> None:
    """Once the attached layers are trained, another context changes the output; masked context does not."""
    denoiser, conditioning = _denoiser(bench), bench.conditioning()
    for module in _attach_all(denoiser).values():
        randomised(module, std=0.2)
    context, other = _context(seed=0), _context(seed=7)
    guided = _predict(denoiser, bench, replace(conditioning, context=context))
    changed = _predict(denoiser, bench, replace(conditioning, context=other))
    demand(_gap(guided, changed) > 1e-6, "another context gives the same output")
    hidden = replace(context, mask=_only_first(context.mask))
    tokens = other.tokens.clone()
    tokens[:, 0] = context.tokens[:, 0]
    masked = replace(hidden, tokens=tokens, position_mm=other.position_mm)
    gap = _gap(
        _predict(denoiser, bench, replace(conditioning, context=hidden)),
        _predict(denoiser, bench, replace(conditioning, context=masked)),
    )
    demand(gap <= 1e-6, f"masked context changes the output by {gap:.3g}")


def _only_first(mask: Any) -> Any:
    import torch

    mask = torch.zeros_like(mask)
    mask[:, 0] = True
    return mask


def _gap(first: Any, second: Any) -> float:
    return float((first - second).abs().max())


def _Probe(name: str, seen: dict[str, tuple[int, ...]]) -> Any:  # noqa: N802 - makes an instance of a local class
    import torch

    class Probe(torch.nn.Module):
        """Notes the shape of what it is given and adds nothing."""

        def forward(self, hidden: Any, context: Context) -> Any:
            seen[name] = tuple(hidden.shape)
            return torch.zeros_like(hidden)

    return Probe()
