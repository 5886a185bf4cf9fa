"""Flows that are generated together, with random weights: the tests look at who reads what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import core  # noqa: F401
from core.config.recipe import GuideChoice
from core.generate.guidance import Guidance
from core.generate.joint_sampling import Given, Output
from core.guide.attention import attach_guidance
from core.guide.context_encoder import new_context_encoder
from core.io.geometry import centred
from core.testing.toy_nets import ToyDenoiser
from core.types import Conditioning, LatentSpec

torch.set_num_threads(1)
PROMPT_WIDTH, CONTEXT_WIDTH, BATCH = 8, 16, 3
CHOICE = GuideChoice(context="spatial", adaptation=True)
FRONTAL, AXIAL = centred((8, 8), (40.0, 40.0), "IL"), centred((8, 8), (40.0, 40.0), "PL")
VOLUME = centred((8, 8, 8), (40.0, 40.0, 40.0), "SPL")
SHAPES = {"a": (3, ()), "b": (2, (4, 4)), "c": (1, (4, 4)), "d": (2, (2, 2, 2))}
GEOMETRY = {"a": None, "b": FRONTAL, "c": AXIAL, "d": VOLUME}


def randomise(module: Any, seed: int, std: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=draws))


def prompt(name: str, seed: int, batch: int = BATCH) -> Conditioning:
    draws = torch.Generator().manual_seed(seed + 100 * ord(name))
    return Conditioning(prompt=torch.randn(1, 2, PROMPT_WIDTH, generator=draws).expand(batch, -1, -1))


def context_encoder_of(name: str, seed: int = 0) -> Any:
    channels, space = SHAPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + ord(name))
        return new_context_encoder(
            CHOICE,
            LatentSpec(channels=channels, space=space),
            GEOMETRY[name],
            width=CONTEXT_WIDTH,
            prompt_width=PROMPT_WIDTH,
            depth=1,
        )


@pytest.fixture
def new_output() -> Callable[..., Output]:
    """An output; the attention of ``trained`` ones is no longer zero."""

    def make(name: str, *, trained: bool = True, batch: int = BATCH, scale: float = 2.0, **more: Any) -> Output:
        channels, space = SHAPES[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ord(name))
            denoiser = ToyDenoiser(channels, space, 16, PROMPT_WIDTH)
            sites = attach_guidance(denoiser, GEOMETRY[name], context_width=CONTEXT_WIDTH)
        if trained:
            randomise(sites, ord(name), 0.3)
        settings = {"context_encoder": context_encoder_of(name), "guidance": Guidance(scale=scale), **more}
        return Output(
            denoiser=denoiser.eval(), prompted=prompt(name, 1, batch), null=prompt(name, 2, batch), **settings
        )

    return make


@pytest.fixture
def new_given() -> Callable[..., Given]:
    def make(name: str, *, batch: int = BATCH, present: Any = None) -> Given:
        channels, space = SHAPES[name]
        rows = [
            torch.randn(channels, *space, generator=torch.Generator().manual_seed(50 + row)) for row in range(batch)
        ]
        return Given(latent=torch.stack(rows), context_encoder=context_encoder_of(name), present=present)

    return make


@pytest.fixture
def new_context_encoder_of() -> Callable[..., Any]:
    return context_encoder_of


@pytest.fixture
def randomised() -> Callable[..., None]:
    return randomise
