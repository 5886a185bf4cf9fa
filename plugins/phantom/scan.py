"""CT and MRI of a plane of the body."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plugins.phantom.body import Body
from plugins.phantom.fields import smooth_field
from plugins.phantom.grid import Grid
from plugins.phantom.layers import composed, cut
from plugins.phantom.section import Section
from plugins.phantom.tissues import MOVING_BLOOD, TISSUES

_CT_NOISE_HU = (6.0, 16.0)  # standard deviation per 6 mm pixel of a low-dose chest scan
_SCALE = 1000.0  # a.u. of the brightest possible MR signal


class Weighting(NamedTuple):
    """Repetition and echo time of a spin echo, ms."""

    tr_ms: float
    te_ms: float


WEIGHTINGS = {"mri_t1": Weighting(600, 12), "mri_t2": Weighting(4500, 90), "mri_pd": Weighting(3500, 15)}


def spin_echo(density: float, t1_ms: float, t2_ms: float, weighting: Weighting) -> float:
    """S = PD (1 - exp(-TR / T1)) exp(-TE / T2): the spin echo for TE much shorter than TR."""
    return float(density * (1 - np.exp(-weighting.tr_ms / t1_ms)) * np.exp(-weighting.te_ms / t2_ms))


def tissue_signals(weighting: Weighting) -> dict[str, float]:
    """Signal of every tissue; blood moves, and loses signal by that."""
    signals = {name: spin_echo(part.density, part.t1_ms, part.t2_ms, weighting) for name, part in TISSUES.items()}
    return {**signals, "blood": MOVING_BLOOD * signals["blood"]}


def _plane(body: Body, section: Section, values: dict[str, float], background: float) -> np.ndarray:
    flat = Grid((body.grid.shape[0], body.grid.shape[1], 1), body.grid.spacing_mm)
    return composed(flat, cut(body.grid, body.layers, section.level), values, background)[:, :, 0]


def ct_slice(body: Body, section: Section, rng: np.random.Generator) -> np.ndarray:
    """CT numbers with texture and noise, float32 ``1 H W`` in whole HU."""
    plane = _plane(body, section, body.hu, -1000.0)
    picture = section.sampled(plane, -1000.0)
    matter = np.clip((picture + 1000) / 1000, 0, 1)
    texture = smooth_field(rng, picture.shape, (26, 26)) * (6 + 22 * matter * (1 - matter) * 4)
    noise = rng.standard_normal(picture.shape) * rng.uniform(*_CT_NOISE_HU) * (0.5 + 0.5 * matter)
    return np.rint(np.clip(picture + texture * (matter > 0.05) + noise, -1024, 3000))[None].astype(np.float32)


def mri_slices(body: Body, section: Section, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The three contrasts of the same plane, float32 ``1 H W``, each with its bias field and Rician noise."""
    pictures = {}
    texture = 1 + 0.035 * smooth_field(rng, (section.pixels,) * 2, (22, 22))
    sigma = rng.uniform(0.004, 0.010)
    for name, weighting in WEIGHTINGS.items():
        signal = section.sampled(_plane(body, section, tissue_signals(weighting), 0.0), 0.0) * texture
        bias = np.exp(0.16 * smooth_field(rng, signal.shape, (3, 3)))
        pictures[name] = (_SCALE * rician(signal * bias, sigma, rng))[None].astype(np.float32)
    return pictures


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude of a complex signal with Gaussian noise of ``sigma`` in both channels."""
    real, imaginary = rng.normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + real, imaginary)
