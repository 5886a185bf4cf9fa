"""Parts that several plugins share: denoisers, autoencoders and prompt encoders for grids, vectors and text.

Names are loaded on first use; importing ``core.nn`` imports neither torch nor pydantic. Configs are in light modules,
networks in modules that ``build()`` imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "core.nn.autoencoders.config": ("GridAutoencoderConfig", "TextAutoencoderConfig"),
    "core.nn.context_attention": ("ContextAttention",),
    "core.nn.denoisers.config": ("GridDenoiserConfig", "VectorDenoiserConfig"),
    "core.nn.denoisers.unet2d": ("install_diffusers_sites",),
    "core.nn.parameterisation": ("Parameterisation",),
    "core.nn.schedule": (
        "NUM_TIMESTEPS",
        "NoiseSchedule",
        "alpha_sigma",
        "log_snr_of_timestep",
        "scaled_linear_betas",
        "timestep_of_log_snr",
        "universal_timestep",
    ),
    "core.nn.denoisers.unet3d": ("install_monai_sites",),
    "core.nn.prompts.config": ("GridPromptEncoderConfig", "TextPromptEncoderConfig"),
    "core.nn.denoisers.sites": ("ContextSite", "SitedDenoiser", "attach_at"),
    "core.nn.presets": ("PROMPT_WIDTHS", "GridNetworks", "grid_networks"),
    "core.nn.pretrained": ("load_prompt_encoder",),
    "core.nn.prompts.clip": ("ClipTextEncoders",),
    "core.nn.autoencoders.decoding": ("Decoding",),
    "core.nn.denoisers.unet0d": ("VectorUNet",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = [
    "NUM_TIMESTEPS",
    "PROMPT_WIDTHS",
    "ClipTextEncoders",
    "ContextAttention",
    "ContextSite",
    "Decoding",
    "GridAutoencoderConfig",
    "GridDenoiserConfig",
    "GridNetworks",
    "GridPromptEncoderConfig",
    "NoiseSchedule",
    "Parameterisation",
    "SitedDenoiser",
    "TextAutoencoderConfig",
    "TextPromptEncoderConfig",
    "VectorDenoiserConfig",
    "VectorUNet",
    "alpha_sigma",
    "attach_at",
    "grid_networks",
    "install_diffusers_sites",
    "install_monai_sites",
    "load_prompt_encoder",
    "log_snr_of_timestep",
    "scaled_linear_betas",
    "timestep_of_log_snr",
    "universal_timestep",
]


# Former names, kept for one version so that plugins written for it load.
_FORMER = {"offer_diffusers_sites": "install_diffusers_sites", "offer_monai_sites": "install_monai_sites"}


def __getattr__(name: str) -> Any:
    name = _FORMER.get(name, name)
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'core.nn' has no public name '{name}'")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)


if TYPE_CHECKING:
    from core.nn.autoencoders.config import GridAutoencoderConfig, TextAutoencoderConfig
    from core.nn.autoencoders.decoding import Decoding
    from core.nn.context_attention import ContextAttention
    from core.nn.denoisers.config import GridDenoiserConfig, VectorDenoiserConfig
    from core.nn.denoisers.sites import ContextSite, SitedDenoiser, attach_at
    from core.nn.denoisers.unet0d import VectorUNet
    from core.nn.denoisers.unet2d import install_diffusers_sites
    from core.nn.denoisers.unet3d import install_monai_sites
    from core.nn.parameterisation import Parameterisation
    from core.nn.presets import PROMPT_WIDTHS, GridNetworks, grid_networks
    from core.nn.pretrained import load_prompt_encoder
    from core.nn.prompts.clip import ClipTextEncoders
    from core.nn.prompts.config import GridPromptEncoderConfig, TextPromptEncoderConfig
    from core.nn.schedule import (
        NUM_TIMESTEPS,
        NoiseSchedule,
        alpha_sigma,
        log_snr_of_timestep,
        scaled_linear_betas,
        timestep_of_log_snr,
        universal_timestep,
    )
