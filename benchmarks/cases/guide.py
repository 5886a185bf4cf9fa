"""A guide step of a pair beside two bare UNet steps: CT and a radiograph at ``tiny``.

``OMP_NUM_THREADS=1``; CPU time; medians of pairs that are run in turn. Bare: forward, loss and backward of each frozen
denoiser with its prompt, gradients with respect to its input, which is what any training of attention inside a frozen
network needs. Ours adds the context encoders, the attention and their gradients. Both without optimiser and drawing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.coupled import RECIPES, coupled_flows, paired, row

NAMES, REPEATS = ("xray_frontal", "ct"), 7


def measure() -> list[dict[str, Any]]:
    """A row per batch size and recipe."""
    import torch

    torch.set_num_threads(1)
    return [
        row(f"guide step of a pair, {recipe}, batch {batch}", paired(*steps(batch, recipe), REPEATS))
        for recipe in RECIPES
        for batch in (8, 16)
    ]


def steps(batch: int, recipe: str) -> tuple[Any, Any]:
    """Our step and the bare one."""
    import torch

    flows = coupled_flows(NAMES, batch, recipe=recipe)
    z = {name: torch.randn(batch, *flow.denoiser.latent_shape) for name, flow in flows.items()}
    level, noisy = torch.randn(batch), torch.zeros(batch, dtype=torch.bool)

    def ours() -> None:
        for receiver, sender in (NAMES, NAMES[::-1]):
            flow = flows[receiver]
            context = flows[sender].context_encoder(z[sender], level, noisy)
            predicted = flow.denoiser(z[receiver], level, replace(flow.prompted, context=context))
            predicted.square().mean().backward()
        for flow in flows.values():
            flow.sites.zero_grad()
            flow.context_encoder.zero_grad()

    def bare() -> None:
        for name in NAMES:
            noised = z[name].clone().requires_grad_(True)
            flows[name].denoiser(noised, level, flows[name].prompted).square().mean().backward()

    return ours, bare
