"""Configs: cheap to import, clear about sizes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

import core.nn
from core.errors import UserError
from core.nn import (
    GridAutoencoderConfig,
    GridDenoiserConfig,
    GridPromptEncoderConfig,
    TextPromptEncoderConfig,
    VectorDenoiserConfig,
)

DENOISER = {"channels": 4, "space": (8, 8), "prompt_width": 16}
VOLUME = {**DENOISER, "space": (4, 6, 6)}
AUTOENCODER = {"channels": 1, "space": (64, 64)}
PROMPT = {"channels": 1, "space": (32, 32), "prompt_width": 16}
TEXT = {"vocabulary": 50, "prompt_width": 16}

WRONG = [
    (
        GridDenoiserConfig,
        {**DENOISER, "space": (7, 9)},
        r"space \(7, 9\) must be multiples of 4 .*3 levels.* found 7, 9",
    ),
    (GridDenoiserConfig, VOLUME, r"space \(4, 6, 6\) must be multiples of 4 .* found 6"),
    (GridDenoiserConfig, {**DENOISER, "space": (8,)}, "space must have 2 or 3 axes"),
    (GridDenoiserConfig, {**DENOISER, "space": (0, 8)}, "at least 1"),
    (
        GridDenoiserConfig,
        {**DENOISER, "attention": (True,)},
        "one item per level is needed, found widths 3, attention 1",
    ),
    (GridDenoiserConfig, {**DENOISER, "head_width": (8, 8)}, "head_width 2"),
    (GridDenoiserConfig, {**DENOISER, "widths": ()}, "widths must name at least one level"),
    (GridDenoiserConfig, {**DENOISER, "widths": (40, 64, 64)}, "must be multiples of 32 .norm_groups., found 40"),
    (GridDenoiserConfig, {**DENOISER, "head_width": 48}, r"widths 128 must be multiples of 48 \(head_width\)"),
    (GridDenoiserConfig, {**VOLUME, "space": (4, 8, 8), "init_from": "x"}, "init_from loads 2-D networks only"),
    (VectorDenoiserConfig, {"model_width": 40}, "must be multiples of 32"),
    (VectorDenoiserConfig, {"num_heads": 7}, r"must be multiples of 7 \(num_heads\)"),
    (VectorDenoiserConfig, {"attention": (True,)}, "one item per level"),
    (VectorDenoiserConfig, {"multipliers": (), "attention": ()}, "at least one level"),
    (GridAutoencoderConfig, {**AUTOENCODER, "space": (60, 64)}, "must be multiples of 8"),
    (GridAutoencoderConfig, {**AUTOENCODER, "downsample": 6}, "power of two"),
    (GridAutoencoderConfig, {**AUTOENCODER, "downsample": 4}, "widths needs 3 items at downsample 4"),
    (GridAutoencoderConfig, {**AUTOENCODER, "patch": 2}, "widths needs 3 items at downsample 8 and patch 2"),
    (GridAutoencoderConfig, {**AUTOENCODER, "patch": 3}, "patch must be a power of two"),
    (GridAutoencoderConfig, {**AUTOENCODER, "patch": 16}, "at most downsample 8"),
    (GridAutoencoderConfig, {**AUTOENCODER, "init_from": "x", "patch": 2}, "takes no patches"),
    (GridAutoencoderConfig, {**AUTOENCODER, "norm_groups": 24}, "multiples of 24"),
    (GridAutoencoderConfig, {"channels": 1, "space": (8, 8, 8), "init_from": "x"}, "2-D networks only"),
    (GridPromptEncoderConfig, {**PROMPT, "patch": 12}, r"space 32 must be multiples of 12 \(patch\)"),
    (GridPromptEncoderConfig, {**PROMPT, "patch": (8, 8, 8)}, "one per axis"),
    (GridPromptEncoderConfig, {**PROMPT, "num_heads": 5}, "multiples of 5"),
    (GridPromptEncoderConfig, {**PROMPT, "regions": 3}, r"must be multiples of 3 \(regions\)"),
    (TextPromptEncoderConfig, {**TEXT, "num_heads": 5}, "multiples of 5"),
]


@pytest.mark.parametrize(("config", "settings", "message"), WRONG)
def test_wrong_sizes_give_a_single_line(config, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        config(**settings)
    assert str(caught.value).startswith(config.__name__)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "settings"),
    [(GridDenoiserConfig, {**DENOISER, "channels": 0}), (TextPromptEncoderConfig, {**TEXT, "widht": 3})],
)
def test_wrong_fields_are_pydantic_s_to_report(config, settings):
    with pytest.raises(ValidationError):
        config(**settings)


@pytest.mark.parametrize(
    "config",
    [
        GridDenoiserConfig(**DENOISER, head_width=(32, 64, 64)),
        VectorDenoiserConfig(),
        GridAutoencoderConfig(**AUTOENCODER),
        GridPromptEncoderConfig(**PROMPT, patch=(8, 16)),
        TextPromptEncoderConfig(**TEXT),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_config_survives_toml(config):
    import tomllib

    import tomli_w

    written = tomli_w.dumps(config.model_dump(exclude_none=True))
    assert type(config).model_validate(tomllib.loads(written)) == config


def test_configs_cost_no_torch():
    script = "import sys, core.nn; from core.nn import " + ", ".join(
        name for name in core.nn.__all__ if name.endswith("Config")
    )
    script += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_public_name_is_there():
    assert set(core.nn.__all__) == set(core.nn._MODULE_OF)
    for name in core.nn.__all__:
        assert getattr(core.nn, name) is not None
    with pytest.raises(AttributeError, match="no public name"):
        core.nn.nothing  # noqa: B018
