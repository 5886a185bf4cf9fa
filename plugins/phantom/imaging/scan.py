"""Make CT and MRI of a plane of the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from core.api import Space
from plugins.phantom.anatomy.body import Body
from plugins.phantom.geometry.fields import smooth_field
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import layers_at_level, mix_tissues
from plugins.phantom.imaging.section import Section
from plugins.phantom.imaging.tissues import MOVING_BLOOD, TISSUES

_CT_NOISE_HU = (6.0, 16.0)  # standard deviation per 6 mm pixel of a low-dose chest scan
_SCALE = 1000.0  # a.u. of the brightest possible MR signal


class Weighting(NamedTuple):
    """Hold repetition and echo time of a spin echo, ms."""

    tr_ms: float
    te_ms: float


WEIGHTINGS = {"mri_t1": Weighting(600, 12), "mri_t2": Weighting(4500, 90), "mri_pd": Weighting(3500, 15)}


def spin_echo(density: float, t1_ms: float, t2_ms: float, weighting: Weighting) -> float:
    """Return S = PD (1 - exp(-TR / T1)) exp(-TE / T2), the spin-echo signal for TE much shorter than TR."""
    return float(density * (1 - np.exp(-weighting.tr_ms / t1_ms)) * np.exp(-weighting.te_ms / t2_ms))


def tissue_signals(weighting: Weighting) -> dict[str, float]:
    """Return the signal of every tissue; blood moves, and loses signal by that."""
    signals = {name: spin_echo(part.density, part.t1_ms, part.t2_ms, weighting) for name, part in TISSUES.items()}
    return {**signals, "blood": MOVING_BLOOD * signals["blood"]}


def _plane(body: Body, section: Section, values: dict[str, float], background: float) -> np.ndarray:
    flat = Grid((body.grid.shape[0], body.grid.shape[1], 1), body.grid.spacing_mm)
    return mix_tissues(flat, layers_at_level(body.grid, body.layers, section.level), values, background)[:, :, 0]


class CtDraw(NamedTuple):
    """Hold what a scanner adds to a slice: texture and noise of unit standard deviation, ``H W``; the noise's in HU."""

    texture: np.ndarray
    noise: np.ndarray
    noise_hu: float


class MriDraw(NamedTuple):
    """Hold the same for MRI: ``texture`` ``H W``; by contrast a bias field ``H W`` and complex noise ``2 H W``."""

    texture: np.ndarray
    sigma: float
    bias: Mapping[str, np.ndarray]
    noise: Mapping[str, np.ndarray]


def draw_ct(rng: np.random.Generator, shape: Space) -> CtDraw:
    """Draw texture and noise of a slice."""
    return CtDraw(ct_texture(rng, shape), rng.standard_normal(shape), float(rng.uniform(*_CT_NOISE_HU)))


def ct_texture(rng: np.random.Generator, shape: Space) -> np.ndarray:
    """Draw a slice's texture."""
    return smooth_field(rng, shape, (26, 26))


def ct_image(plane_hu: np.ndarray, draw: CtDraw) -> np.ndarray:
    """Return the CT numbers of a plane, ``H W`` in HU, with texture and noise, float32 ``1 H W`` in whole HU."""
    matter = np.clip((plane_hu + 1000) / 1000, 0, 1)
    texture = draw.texture * (6 + 22 * matter * (1 - matter) * 4)
    noise = draw.noise * draw.noise_hu * (0.5 + 0.5 * matter)
    return np.rint(np.clip(plane_hu + texture * (matter > 0.05) + noise, -1024, 3000))[None].astype(np.float32)


def draw_mri(rng: np.random.Generator, shape: Space) -> MriDraw:
    """Draw texture, bias fields and noise of a slice, for all contrasts."""
    texture, sigma = mri_texture(rng, shape), rng.uniform(0.004, 0.010)
    bias, noise = {}, {}
    for name in WEIGHTINGS:
        bias[name] = mri_bias(rng, shape)
        noise[name] = mri_noise(rng, sigma, shape)
    return MriDraw(texture, sigma, bias, noise)


def mri_texture(rng: np.random.Generator, shape: Space) -> np.ndarray:
    """Draw a slice's texture."""
    return smooth_field(rng, shape, (22, 22))


def mri_bias(rng: np.random.Generator, shape: Space) -> np.ndarray:
    """Draw a bias field, before its exponential."""
    return smooth_field(rng, shape, (3, 3))


def mri_noise(rng: np.random.Generator, sigma: float, shape: Space) -> np.ndarray:
    """Draw Gaussian noise of ``sigma`` in both channels of a complex signal, ``2 *shape``."""
    return rng.normal(0, sigma, (2, *shape))


def mri_image(signal: np.ndarray, draw: MriDraw, name: str) -> np.ndarray:
    """Return a contrast of a plane from its signal ``H W``: texture, bias field, Rician noise; float32 ``1 H W``."""
    biased = signal * (1 + 0.035 * draw.texture) * np.exp(0.16 * draw.bias[name])
    return (_SCALE * magnitude(biased, draw.noise[name]))[None].astype(np.float32)


def ct_slice(body: Body, section: Section, rng: np.random.Generator) -> np.ndarray:
    """Return the CT numbers of a plane, float32 ``1 H W`` in whole HU."""
    plane_hu = section.resampled(_plane(body, section, body.hu, -1000.0), -1000.0)
    return ct_image(plane_hu, draw_ct(rng, plane_hu.shape))


def mri_slices(body: Body, section: Section, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the three contrasts of the same plane, float32 ``1 H W``."""
    draw = draw_mri(rng, (section.pixels,) * 2)
    signals = {
        name: section.resampled(_plane(body, section, tissue_signals(weighting), 0.0), 0.0)
        for name, weighting in WEIGHTINGS.items()
    }
    return {name: mri_image(signal, draw, name) for name, signal in signals.items()}


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return the magnitude of a complex signal with Gaussian noise of ``sigma`` in both channels."""
    return magnitude(signal, mri_noise(rng, sigma, signal.shape))


def magnitude(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the magnitude of a real signal with complex noise ``2 H W``, which is what a scanner displays."""
    real, imaginary = noise
    return np.hypot(signal + real, imaginary)
