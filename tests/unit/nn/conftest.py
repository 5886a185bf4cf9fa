"""Small networks of every kind behind one small interface, and random conditionings for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

import core  # noqa: F401  (cures torchvision before diffusers and MONAI look at it)
from core.types import Conditioning, Context

torch.set_num_threads(1)  # the networks are tiny: threads would only wait for each other
PROMPT_WIDTH, CONTEXT_WIDTH, LENGTH = 12, 10, 5


@dataclass(frozen=True)
class Kind:
    """A kind of network: ``make`` without sites, ``offer`` them, ``run`` it."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[], nn.Module]
    offer: Callable[..., dict[str, Any]]
    run: Callable[..., torch.Tensor]

    def ready(self, *, checkpointed: bool = False, seed: int = 0) -> tuple[nn.Module, dict[str, Any]]:
        """A network with sites and random weights (libraries zero some outputs, and nothing would show)."""
        torch.manual_seed(seed)  # libraries initialise from the global state
        network = randomise(self.make(), seed)
        return network, self.offer(network, checkpointed)

    def noisy(self, batch: int = 2, seed: int = 1) -> torch.Tensor:
        return torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def _make_diffusers() -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        in_channels=3,
        out_channels=3,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=PROMPT_WIDTH,
        norm_num_groups=4,
    )


def _install_diffusers(network: Any, checkpointed: bool = False) -> dict[str, Any]:
    from core.nn import install_diffusers_sites

    if checkpointed:
        network.enable_gradient_checkpointing()
    return install_diffusers_sites(network)


def _run_diffusers(network: Any, noisy: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    kwargs = None if conditioning.context is None else {"context": conditioning.context}
    return network(
        noisy,
        torch.full((len(noisy),), 321.5),
        encoder_hidden_states=conditioning.prompt,
        encoder_attention_mask=conditioning.prompt_mask,
        cross_attention_kwargs=kwargs,
    ).sample


def _make_monai(axes: int, **more: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from monai.networks.nets import DiffusionModelUNet

        return DiffusionModelUNet(
            spatial_dims=axes,
            in_channels=3,
            out_channels=3,
            num_res_blocks=1,
            channels=(8, 16),
            attention_levels=(False, True),
            norm_num_groups=4,
            num_head_channels=8,
            with_conditioning=True,
            cross_attention_dim=PROMPT_WIDTH,
            **more,
        )

    return make


def _install_monai(network: Any, checkpointed: bool = False) -> dict[str, Any]:
    from core.nn import install_monai_sites

    return install_monai_sites(network, gradient_checkpointing=checkpointed)


def _run_monai(network: Any, noisy: torch.Tensor, conditioning: Any) -> torch.Tensor:
    return network(noisy, torch.full((len(noisy),), 321.5), context=conditioning)


def _make_vector() -> nn.Module:
    from core.nn import VectorUNet

    return VectorUNet(latent_width=6, model_width=8, prompt_width=PROMPT_WIDTH, num_heads=2, norm_groups=4)


def _offer_vector(network: Any, checkpointed: bool = False) -> dict[str, Any]:
    network.gradient_checkpointing = checkpointed
    return network.sites()


def _run_vector(network: Any, noisy: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    return network(noisy, torch.full((len(noisy),), 321.5), conditioning)


KINDS = [
    Kind("diffusers-2d", (3, 8, 4), _make_diffusers, _install_diffusers, _run_diffusers),
    Kind("monai-2d", (3, 8, 4), _make_monai(2), _install_monai, _run_monai),
    Kind("monai-2d-updown", (3, 8, 4), _make_monai(2, resblock_updown=True), _install_monai, _run_monai),
    Kind("monai-3d", (3, 4, 4, 2), _make_monai(3), _install_monai, _run_monai),
    Kind("monai-3d-fused", (3, 4, 4, 2), _make_monai(3, use_flash_attention=True), _install_monai, _run_monai),
    Kind("vector", (6,), _make_vector, _offer_vector, _run_vector),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(params=[kind for kind in KINDS if kind.name.startswith("monai")], ids=lambda kind: kind.name)
def monai_kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def diffusers_kind() -> Kind:
    return KINDS[0]


@pytest.fixture
def randomised() -> Callable[..., nn.Module]:
    return randomise


@pytest.fixture
def new_context() -> Callable[..., Context]:
    """A context of five tokens whose last two are masked."""

    def make(seed: int = 3, batch: int = 2, width: int = CONTEXT_WIDTH) -> Context:
        generator = torch.Generator().manual_seed(seed)
        mask = torch.ones(batch, LENGTH, dtype=torch.bool)
        mask[:, 3:] = False
        return Context(
            tokens=torch.randn(batch, LENGTH, width, generator=generator),
            mask=mask,
            position_mm=torch.zeros(batch, LENGTH, 3),
            axes=torch.zeros(batch, LENGTH, 3, dtype=torch.bool),
        )

    return make


@pytest.fixture
def new_conditioning(new_context: Callable[..., Context]) -> Callable[..., Conditioning]:
    """A prompt of five tokens whose last two are masked, with a context."""

    def make(seed: int = 2, batch: int = 2, width: int = PROMPT_WIDTH, **more: Any) -> Conditioning:
        generator = torch.Generator().manual_seed(seed)
        mask = torch.ones(batch, LENGTH, dtype=torch.bool)
        mask[:, 3:] = False
        prompt = torch.randn(batch, LENGTH, width, generator=generator)
        made = Conditioning(prompt=prompt, prompt_mask=mask, context=new_context(seed + 1, batch))
        return replace(made, **more)

    return make


@pytest.fixture
def attach_fresh() -> Callable[..., list[nn.Module]]:
    """Attach a context attention at every site; ``trained`` ones have left their zeros."""

    def attach(sites: dict[str, Any], width_of: Callable[[Any], int], *, trained: bool = False) -> list[nn.Module]:
        from core.nn import ContextAttention

        torch.manual_seed(4)
        modules: list[nn.Module] = []
        for site in sites.values():
            module = ContextAttention(width_of(site), CONTEXT_WIDTH, 2)
            modules.append(randomise(module, 7) if trained else module)
            site.attach(module)
        return modules

    return attach


@pytest.fixture
def width_of() -> Callable[[Any], int]:
    """Features of a hidden token at a site of any kind."""

    def found(site: Any) -> int:
        return int(getattr(site, "norm1", getattr(site, "norm_self", None)).normalized_shape[0])

    return found
