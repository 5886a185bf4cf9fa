"""Networks from local diffusers folders."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import UserError
from core.nn import GridAutoencoderConfig, GridDenoiserConfig
from core.types import Batch

WEIGHTS = "diffusion_pytorch_model.safetensors"
DENOISER = {"channels": 3, "space": (8, 4), "prompt_width": 12}
AUTOENCODER = {"channels": 3, "space": (8, 8), "latent_channels": 4, "downsample": 2}


@pytest.fixture
def unet_folder(tmp_path, diffusers_kind, randomised):
    randomised(diffusers_kind.make()).save_pretrained(tmp_path / "unet")
    return tmp_path


@pytest.fixture
def vae_folder(tmp_path, randomised):
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    network = AutoencoderKL(block_out_channels=(4, 8), norm_num_groups=4, **blocks)
    randomised(network).save_pretrained(tmp_path / "vae")
    return tmp_path


@pytest.mark.parametrize("part", ["", "unet"])
def test_a_denoiser_takes_the_weights_of_the_folder(unet_folder, part, new_conditioning, diffusers_kind):
    denoiser = GridDenoiserConfig(**DENOISER, init_from=str(unet_folder / part)).build()
    stored = load_file(unet_folder / "unet" / WEIGHTS)
    assert stored.keys() == denoiser.network.state_dict().keys()
    assert all(torch.equal(stored[name], value) for name, value in denoiser.network.state_dict().items())
    assert {site.grid for site in denoiser.context_sites()} == {(8, 4), (4, 2), ()}
    assert denoiser.training
    conditioning = replace(new_conditioning(), context=None)
    assert denoiser(diffusers_kind.noisy(), torch.zeros(2), conditioning).shape == (2, 3, 8, 4)


def test_an_autoencoder_takes_the_weights_of_the_folder(vae_folder):
    autoencoder = GridAutoencoderConfig(**AUTOENCODER, init_from=str(vae_folder)).build()
    stored = load_file(vae_folder / "vae" / WEIGHTS)
    assert all(torch.equal(stored[name], value) for name, value in autoencoder.network.state_dict().items())
    batch = Batch(modality="thing", data=torch.rand(1, 3, 8, 8))
    assert autoencoder.encode(batch).mean.shape == (1, 4, 4, 4)


def test_grey_images_pass_a_colour_autoencoder(vae_folder):
    grey = GridAutoencoderConfig(**{**AUTOENCODER, "channels": 1}, init_from=str(vae_folder)).build()
    colour = GridAutoencoderConfig(**AUTOENCODER, init_from=str(vae_folder)).build()
    data = torch.rand(2, 1, 8, 8)
    latent = grey.encode(Batch(modality="", data=data)).mean
    assert torch.equal(latent, colour.encode(Batch(modality="", data=data.repeat(1, 3, 1, 1))).mean)
    assert torch.equal(grey.decode(latent).data, colour.decode(latent).data.mean(1, keepdim=True))


def test_a_missing_folder_gives_a_single_line(tmp_path):
    for config in (
        GridDenoiserConfig(**DENOISER, init_from=str(tmp_path / "no")),
        GridAutoencoderConfig(**AUTOENCODER, init_from=str(tmp_path / "no")),
    ):
        with pytest.raises(UserError, match="is not a folder; give a diffusers folder"):
            config.build()
    with pytest.raises(UserError, match=r"has no config\.json"):
        GridDenoiserConfig(**DENOISER, init_from=str(tmp_path)).build()


def test_a_folder_of_another_network_is_refused(vae_folder):
    with pytest.raises(UserError, match="holds a AutoencoderKL, needed is a UNet2DConditionModel"):
        GridDenoiserConfig(**DENOISER, init_from=str(vae_folder / "vae")).build()


def test_pickled_weights_are_refused(unet_folder):
    stored = load_file(unet_folder / "unet" / WEIGHTS)
    (unet_folder / "unet" / WEIGHTS).unlink()
    torch.save(stored, unet_folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        GridDenoiserConfig(**DENOISER, init_from=str(unet_folder)).build()


def _without(stored):
    return {name: value for name, value in stored.items() if name != "conv_out.bias"}


def _with_more(stored):
    return {**stored, "surplus": torch.zeros(1)}


def _reshaped(stored):
    return {**stored, "conv_out.bias": torch.zeros(5)}


@pytest.mark.parametrize("spoil", [_without, _with_more, _reshaped])
def test_loading_is_strict(unet_folder, spoil):
    file = unet_folder / "unet" / WEIGHTS
    save_file(spoil(load_file(file)), file)
    with pytest.raises(UserError, match="init_from") as caught:
        GridDenoiserConfig(**DENOISER, init_from=str(unet_folder)).build()
    assert "\n" not in str(caught.value)
    assert "conv_out.bias" in str(caught.value) or "surplus" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("channels", 4, "channels is 4, but init_from .* has 3; set channels to 3"),
        ("prompt_width", 16, "prompt_width is 16, but init_from .* has 12"),
        ("pooled_width", 16, "pooled_width is 16, but init_from .* has None"),
        ("space", (7, 9), r"space \(7, 9\) must be multiples of 2"),
    ],
)
def test_fields_must_agree_with_the_folder(unet_folder, field, value, message):
    with pytest.raises(UserError, match=message):
        GridDenoiserConfig(**{**DENOISER, field: value}, init_from=str(unet_folder)).build()


@pytest.mark.parametrize(("field", "value"), [("channels", 2), ("latent_channels", 8), ("downsample", 4)])
def test_fields_of_an_autoencoder_must_agree_with_the_folder(vae_folder, field, value):
    with pytest.raises(UserError, match=f"{field} is {value}, but init_from"):
        GridAutoencoderConfig(**{**AUTOENCODER, field: value}, init_from=str(vae_folder)).build()


def test_a_folder_of_sdxl_s_kind_takes_pooled_vector_and_size_ids(unet_folder, new_conditioning, randomised):
    from diffusers import UNet2DConditionModel

    settings = json.loads((unet_folder / "unet" / "config.json").read_text())
    settings |= {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 7 + 6 * 4,
    }
    network = UNet2DConditionModel.from_config(settings)
    randomised(network).save_pretrained(unet_folder / "unet")
    config = GridDenoiserConfig(**DENOISER, pooled_width=7, init_from=str(unet_folder))
    denoiser, noisy = config.build(), torch.randn(2, 3, 8, 4)
    conditioning = new_conditioning(context=None, pooled=torch.randn(2, 7))
    first = denoiser(noisy, torch.zeros(2), conditioning)
    other = denoiser(noisy, torch.zeros(2), replace(conditioning, pooled=-conditioning.pooled))
    assert (first - other).abs().max() > 1e-4
    cropped = config.model_copy(update={"size_ids": (512, 512, 100, 0, 64, 32)}).build()
    assert (first - cropped(noisy, torch.zeros(2), conditioning)).abs().max() > 1e-4
    same = config.model_copy(update={"size_ids": (64, 32, 0, 0, 64, 32)}).build()
    assert torch.equal(first, same(noisy, torch.zeros(2), conditioning))
