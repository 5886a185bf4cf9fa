"""Denoisers at ``tiny`` with random weights that read each other, and ratios of interleaved pairs, for the cases."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

MODALITIES = ("text", "xray_frontal", "xray_lateral", "ct")
LENGTH = 64  # prompt tokens
RECIPES = ("medweave", "medm2g")  # contexts at their places and as summaries, and contexts that are read by attention


def paired(ours: Callable[[], Any], peer: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """CPU seconds of ours and of the peer, and the median ratio, of pairs that are run in turn after one of each."""
    ours(), peer()
    seconds = [(_seconds(ours), _seconds(peer)) for _ in range(repeats)]
    first, second = (statistics.median(each) for each in zip(*seconds, strict=True))
    return first, second, statistics.median(a / b for a, b in seconds)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def row(what: str, pair: tuple[float, float, float]) -> dict[str, Any]:
    """A row of a result."""
    return {"what": what, "cpu_s": round(pair[0], 4), "peer_cpu_s": round(pair[1], 4), "ratio": round(pair[2], 2)}


def coupled_flows(names: Sequence[str], batch: int, preset: str = "tiny", recipe: str = RECIPES[0]) -> dict[str, Any]:
    """A denoiser that reads partners as a recipe does, a context encoder and two conditionings, by modality.

    Deterministic.
    """
    import torch

    torch.manual_seed(0)
    return {name: Flow(name, batch, preset, recipe) for name in names}


class Flow:
    """A modality: its denoiser, its context encoder, a prompt and a null prompt."""

    def __init__(self, name: str, batch: int, preset: str, recipe: str = RECIPES[0]) -> None:
        import torch

        from core.config.registry import load_registry
        from core.contract.discovery import discover
        from core.contract.modality import pooled_width
        from core.guide.attention import attach_guidance
        from core.guide.context_encoder import new_context_encoder
        from core.types import Conditioning, LatentSpec

        parts = discover().modalities[name].parts(preset)
        assert parts.denoiser is not None
        self.denoiser = parts.denoiser.build().eval()
        channels, *space = self.denoiser.latent_shape
        width, geometry = self.denoiser.prompt_width, parts.data.default_geometry
        choice = load_registry().recipe(recipe).guide
        self.sites = attach_guidance(self.denoiser, geometry, **choice.site_widths(width))
        self.context_encoder = new_context_encoder(
            choice,
            LatentSpec(channels=channels, space=tuple(space)),
            geometry,
            width=width,
            prompt_width=width,
        ).eval()
        for parameter in self.sites.parameters():  # fresh ones add exactly 0
            parameter.data.add_(0.02 * torch.randn_like(parameter))
        pooled = pooled_width(self.denoiser)

        def conditioning(tokens: int) -> Conditioning:
            return Conditioning(
                prompt=torch.randn(batch, LENGTH, width),
                prompt_mask=(torch.arange(LENGTH) < tokens).expand(batch, -1),
                pooled=None if pooled is None else torch.randn(batch, pooled),
            )

        self.prompted, self.null = conditioning(LENGTH), conditioning(1)

    def output(self, guidance: Any, *, alone: bool = False) -> Any:
        """What `sample_jointly` generates; ``alone`` without a context encoder."""
        from core.generate.joint_sampling import Output

        return Output(
            denoiser=self.denoiser,
            prompted=self.prompted,
            null=self.null,
            guidance=guidance,
            context_encoder=None if alone else self.context_encoder,
        )
