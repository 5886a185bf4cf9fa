"""What the built-in plugins promise together."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from core.api import Shared

PLUGINS = ("text", "xray", "ct", "mri", "mask", "photo")
PHOTOS = ("dermoscopy", "fundus", "oct", "histopathology", "endoscopy", "smear", "ultrasound")
# BERT-base's and GPT-2's layers, two tables of 50,260 tokens and two of 512 places, and the latent's three maps.
TEXT_AUTOENCODER = 256_936_704
ROOT = Path(__file__).parents[3]


def modalities():
    return {
        modality.name: modality
        for name in PLUGINS
        for modality in importlib.import_module(f"plugins.{name}").register_modalities()
    }


def test_names():
    assert list(modalities()) == [
        *("text", "xray_frontal", "xray_lateral", "ct"),
        *("mri", "mri_t1", "mri_t1c", "mri_t2", "mri_pd", "mri_flair"),
        *("mask_organs", "mask_findings"),
        *(f"photo_{kind}" for kind in PHOTOS),
    ]


@pytest.mark.parametrize("preset", ["tiny", "tiny3d", "small", "paper"])
def test_shared_configs_are_equal(preset):
    shared = {}
    for modality in modalities().values():
        for part, config in modality.parts(preset).declared().items():
            if isinstance(config, Shared):
                shared.setdefault(config.key, []).append((modality.name, part, config.config))
    for owners in shared.values():
        assert len({config for _, _, config in owners}) == 1, [name for name, _, _ in owners]
    keys = {key: len(owners) for key, owners in shared.items()}
    planes = {"image.autoencoder": 9, "xray.prompt": 2, "image11.autoencoder": 1, "image7.autoencoder": 1}
    volumes = {"image.autoencoder": 2, "volume.autoencoder": 7, "xray.prompt": 2}
    volumes |= {"volume11.autoencoder": 1, "volume7.autoencoder": 1}
    for owners_of in (planes, volumes):
        owners_of |= dict.fromkeys(("photo.prompt", "image3.autoencoder", "photo.denoiser"), len(PHOTOS))
    assert keys == (volumes if preset == "tiny3d" else planes)


@pytest.mark.parametrize(("preset", "width"), [("tiny", 128), ("tiny3d", 128), ("small", 384), ("paper", 768)])
def test_all_meet_in_one_shared_space(preset, width):
    for modality in modalities().values():
        parts = modality.parts(preset)
        assert parts.prompt is not None
        assert getattr(parts.prompt, "config", parts.prompt).prompt_width == width, modality.name
        assert getattr(parts.denoiser, "config", parts.denoiser).prompt_width == width


def text_fits(parts):
    tokenizer, autoencoder = parts.preprocess, parts.autoencoder
    assert tokenizer.spec == parts.data
    assert tokenizer.vocabulary == parts.prompt.vocabulary == autoencoder.vocabulary
    assert tokenizer.length == parts.prompt.length == autoencoder.length
    assert autoencoder.spec.channels == parts.denoiser.width


@pytest.mark.parametrize("preset", ["tiny", "tiny3d", "small", "paper"])
def test_parts_fit_together(preset):
    for name, modality in modalities().items():
        parts = modality.parts(preset)
        assert parts.reader.build().suffixes
        if name == "text":
            text_fits(parts)
            continue
        assert parts.autoencoder.config.space == parts.data.space == parts.data.default_geometry.shape
        latent = parts.autoencoder.config.spec
        denoiser = getattr(parts.denoiser, "config", parts.denoiser)
        assert (denoiser.channels, denoiser.space) == (latent.channels, latent.space)
        low, high = parts.data.value_range
        assert (low, high) == parts.preprocess.value_bounds


def test_paper_sizes_are_the_published_ones():
    import torch

    published = {
        ("text", "denoiser"): 1_708_850_368,
        ("text", "autoencoder"): TEXT_AUTOENCODER,
        ("xray_frontal", "denoiser"): 859_520_964,
        ("ct", "autoencoder"): 83_649_253,  # 83.65 M with a channel instead of three
    }
    for (name, part), count in published.items():
        config = modalities()[name].parts("paper").declared()[part]
        with torch.device("meta"):
            module = config.build()
        assert sum(parameter.numel() for parameter in module.parameters()) == count


@pytest.mark.parametrize("name", PLUGINS)
def test_registering_is_fast_and_light(name):
    """Best of five, in a separate process, after the contract itself has been imported."""
    program = f"""
import sys, time
import core.api, core.io, core.preprocess
from core.api import Modality, Parts, Shared, hookimpl
from core.nn import GridAutoencoderConfig, GridDenoiserConfig, GridPromptEncoderConfig, TextPromptEncoderConfig, VectorDenoiserConfig
best = 1.0
for _ in range(5):
    for loaded in [loaded for loaded in sys.modules if loaded.startswith("plugins")]:
        del sys.modules[loaded]
    start = time.perf_counter()
    import plugins.{name} as plugin
    assert plugin.register_modalities()
    best = min(best, time.perf_counter() - start)
heavy = {{"torch", "PIL", "nibabel", "scipy", "monai", "diffusers", "transformers", "timm"}} & set(sys.modules)
assert not heavy, heavy
print(best)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.05


@pytest.mark.parametrize("name", PLUGINS)
def test_every_plugin_has_a_card(name):
    card = (ROOT / "plugins" / name / "README.md").read_text(encoding="utf-8")
    for heading in (
        "Units and range" if name not in ("text",) else "Canonical form",
        "preset",
        "Data sets",
        "Known limits",
    ):
        assert heading in card
    for modality in importlib.import_module(f"plugins.{name}").register_modalities():
        assert f"`{modality.name}`" in card


@pytest.mark.parametrize("name", [name for name in PLUGINS if name != "text"])
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_the_card_states_the_size_of_the_denoiser(name, preset):
    """The last column of the card's row, in millions."""
    import torch

    card = (ROOT / "plugins" / name / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if line.startswith(f"| `{preset}`")]
    stated = float(row.rstrip(" |").rpartition("| ")[2].removesuffix(" M"))
    modality = importlib.import_module(f"plugins.{name}").register_modalities()[0]
    with torch.device("meta"):
        module = modality.parts(preset).denoiser.build()
    count = sum(parameter.numel() for parameter in module.parameters()) / 1e6
    assert abs(count - stated) < (0.05 if stated < 10 else 0.5)
