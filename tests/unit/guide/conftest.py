"""Flows on the toy cohort, whose latents are the data themselves: no autoencoder is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import core  # noqa: F401
from core.config.recipe import GuideChoice
from core.diffuse.objective import Diffusion, noised
from core.engine.rng import make_generator
from core.guide.attention import GuidanceSites, attach_guidance
from core.guide.context_encoder import ContextEncoder, new_context_encoder
from core.guide.losses import FlowState
from core.testing.toy import TOY_GRID, draw_study
from core.testing.toy_nets import ToyDenoiser
from core.types import Conditioning, Geometry, LatentSpec, Prompt

torch.set_num_threads(1)
PROMPT_WIDTH, CONTEXT_WIDTH = 16, 32
GEOMETRY = TOY_GRID.parts("tiny").data.default_geometry
FULL = GuideChoice(context="spatial", adaptation=True, contrast=True, levels="independent", clean=0.1, partner_drop=0.1)


@dataclass
class ToyFlow:
    """One modality with its networks; ``state`` puts studies on their way."""

    latents: torch.Tensor
    geometry: Geometry | None
    denoiser: ToyDenoiser
    context_encoder: ContextEncoder
    sites: GuidanceSites | None = None

    def state(self, rows: Any) -> FlowState:
        z = self.latents[rows]
        return FlowState(
            latent=z, denoiser=self.denoiser, context_encoder=self.context_encoder, conditioning=no_prompt(len(z))
        )

    def attach(self) -> GuidanceSites:
        self.sites = attach_guidance(self.denoiser, self.geometry, context_width=CONTEXT_WIDTH)
        return self.sites

    def train_alone(self, steps: int, purpose: str) -> None:
        """The phase ``diffuse`` in small."""
        optimizer = torch.optim.Adam(self.denoiser.parameters(), lr=2e-3)
        for step in range(steps):
            draws = make_generator(0, "alone", purpose, step)
            z = self.latents[torch.randint(0, len(self.latents), (64,), generator=draws)]
            diffusion = Diffusion()
            level, noise = diffusion.draw_levels(64, draws), torch.randn(z.shape, generator=draws)
            loss = diffusion.loss(z, noise, level, self.denoiser(noised(z, level, noise), level, no_prompt(64)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def no_prompt(batch: int) -> Conditioning:
    return Conditioning(prompt=torch.ones(batch, 1, PROMPT_WIDTH))


def toy_prompt(seed: int = 0, batch: int = 5) -> Prompt:
    tokens = torch.randn(batch, 4, PROMPT_WIDTH, generator=torch.Generator().manual_seed(seed))
    return Prompt(tokens=tokens, pooled=tokens[:, 1], mask=torch.ones(batch, 4, dtype=torch.bool))


def toy_latents(num: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Scaled latents of the cohort: the vector, the picture at 4x4, and the picture seen through another contrast."""
    studies = [draw_study(np.random.default_rng((seed, index))) for index in range(num)]
    vector = torch.from_numpy(np.stack([vector for vector, _ in studies]))
    picture = torch.nn.functional.avg_pool2d(torch.from_numpy(np.stack([picture for _, picture in studies])), 2)
    scaled = {"vector": (vector - 50) / 23.0, "grid": (picture - 20) / 20.0}
    return {**scaled, "inverse": (torch.exp(-scaled["grid"]) - 1.2) / 0.7}


@pytest.fixture(scope="session")
def new_flow() -> Callable[..., ToyFlow]:
    def make(name: str, num: int = 40, seed: int = 0, choice: GuideChoice = FULL, place: Any = GEOMETRY) -> ToyFlow:
        z = toy_latents(num, seed)[name]
        channels, space = z.shape[1], tuple(z.shape[2:])
        geometry = place if space else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + len(name))
            denoiser = ToyDenoiser(channels, space, 32, PROMPT_WIDTH)
            context_encoder = new_context_encoder(
                choice,
                LatentSpec(channels=channels, space=space),
                geometry,
                width=CONTEXT_WIDTH,
                prompt_width=PROMPT_WIDTH,
                depth=1,
            )
        return ToyFlow(z, geometry, denoiser, context_encoder)

    return make


@pytest.fixture
def randomised() -> Callable[..., Any]:
    """The module with every weight moved, so that what starts at zero shows."""

    def move(module: Any, seed: int = 0, std: float = 0.2) -> Any:
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(std * torch.randn(parameter.shape, generator=draws))
        return module

    return move
