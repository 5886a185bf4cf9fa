"""Make a displayed radiograph of line integrals: scatter, quantum noise, characteristic curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.api import Geometry
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.imaging.projection import Beam, project

_SOURCE_MM = 1800.0  # source to detector, the usual 180 cm of a chest stand
_TO_DETECTOR_MM = 190.0  # isocentre to detector
_PHOTONS = 40_000.0  # per fine detector element in open air, after the grid; sets the noise
_FINE = 2  # detector elements per pixel and direction


@dataclass(frozen=True)
class View:
    """Describe a projection: ``frontal`` is PA, ``lateral`` has the left side at the detector.

    In the former the source is behind the patient, in the latter at the right.
    """

    name: Literal["frontal", "lateral"]
    field_mm: float
    centre_mm: tuple[float, float]

    @property
    def beam(self) -> Beam:
        """Return source and detector in the patient's axes."""
        to_source = _SOURCE_MM - _TO_DETECTOR_MM
        if self.name == "frontal":
            return Beam(1, -to_source, _TO_DETECTOR_MM, self.centre_mm)
        return Beam(0, to_source, -_TO_DETECTOR_MM, self.centre_mm)


def radiograph(
    mu: np.ndarray, grid: Grid, view: View, pixels: int, rng: np.random.Generator
) -> tuple[np.ndarray, Geometry]:
    """Return the displayed image, float32 ``1 H W`` in [0, 1] with dark air, and its geometry at the isocentre.

    Rows run inferior, columns to the patient's left (frontal) or posterior (lateral).
    """
    # A pixel collects intensity, so intensity is averaged over it, not path length.
    step = view.field_mm / (pixels * _FINE)
    offsets = (np.arange(pixels * _FINE) - (pixels * _FINE - 1) / 2) * step
    first, second = view.centre_mm
    integrals = project(mu, grid, view.beam, first - offsets, second - offsets)
    intensity = np.exp(-integrals).reshape(pixels, _FINE, pixels, _FINE).mean((1, 3))
    detected = _noisy(_scattered(intensity, rng), rng)
    shown = display_values(-np.log(detected), view.field_mm / pixels / view.beam.magnification, rng).T
    return shown[None].astype(np.float32), _geometry(view, pixels)


def _scattered(intensity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add the scatter that passes the anti-scatter grid: a fraction of the primary, blurred over about 10 cm."""
    from scipy.ndimage import gaussian_filter

    fraction = rng.uniform(0.10, 0.25)
    return intensity + fraction * gaussian_filter(intensity, len(intensity) / 9, mode="nearest")


def _noisy(intensity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    counts = intensity * (_PHOTONS * _FINE**2 * rng.uniform(0.6, 1.6))
    detected = rng.poisson(counts).astype(np.float64)
    return np.maximum(detected, 1.0) / counts.max()


def display_values(density: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Turn the logarithmic signal into grey values, as the workstations of digital detectors do.

    Slow changes are compressed and detail is enhanced (unsharp masking of the logarithm), so that lung and abdomen fit
    into the same image; a window by percentiles and an S-shaped curve like that of film follow.
    """
    from scipy.ndimage import gaussian_filter

    # Open air must not darken the tissue next to it: beyond the skin the density is taken as that of thin tissue.
    clamped = np.maximum(density, np.percentile(density, 99) * 0.25)
    slow = gaussian_filter(clamped, rng.uniform(28, 40) / spacing_mm, mode="nearest")
    detail = clamped - gaussian_filter(clamped, 9 / spacing_mm, mode="nearest")
    flat = density - rng.uniform(0.35, 0.6) * (slow - slow.mean()) + rng.uniform(0.3, 0.9) * detail
    low, high = np.percentile(flat, rng.uniform(0.5, 4)), np.percentile(flat, rng.uniform(95, 99.5))
    share = np.clip((flat - low) / max(high - low, 1e-6), 0, 1) ** rng.uniform(0.9, 1.35)
    curve = 1 / (1 + np.exp(-rng.uniform(3.0, 5.0) * (share - rng.uniform(0.45, 0.55))))
    return np.clip((curve - curve.min()) / max(float(np.ptp(curve)), 1e-6), 0, 1)


def _geometry(view: View, pixels: int) -> Geometry:
    """Return the image's geometry in the plane through the isocentre, where positions agree with the CT's."""
    spacing = view.field_mm / pixels / view.beam.magnification
    affine = np.eye(4)
    across = 0 if view.name == "frontal" else 1
    affine[:3, :3] = 0
    affine[2, 0] = affine[across, 1] = -spacing
    affine[1 - across, 2] = 1.0 if view.name == "frontal" else -1.0
    first, second = view.centre_mm
    affine[2, 3] = second + spacing * (pixels - 1) / 2
    affine[across, 3] = first + spacing * (pixels - 1) / 2
    return Geometry(affine=affine, shape=(pixels, pixels), source_header={"view": view.name})
