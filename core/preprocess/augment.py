"""Random augmentation of an image or volume for alignment (method E3).

The parameters are drawn first, and then applied deterministically.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from core.contract.modality import PartConfig
from core.types import Sample, Space

if TYPE_CHECKING:
    from torch import Generator


def rotation(angles_deg: tuple[float, ...], spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Return a rotation in mm as a matrix on array indices: one angle in 2-D, one about each axis in 3-D."""
    count = len(spacing_mm)
    planes = [(0, 1)] if count == 2 else [(1, 2), (0, 2), (0, 1)]
    matrix = np.eye(count)
    for (first, second), angle in zip(planes, np.deg2rad(angles_deg), strict=True):
        plane = np.eye(count)
        plane[first, first] = plane[second, second] = np.cos(angle)
        plane[first, second], plane[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ plane
    spacing = np.array(spacing_mm)
    return matrix * spacing[None, :] / spacing[:, None]


def warp(
    data: np.ndarray, matrix: np.ndarray, shift: np.ndarray, fill: float, order: Literal[0, 1] = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate ``channel *space`` about its centre and move it by ``shift`` of each side.

    ``order`` 1 interpolates linearly, 0 takes the nearest point. Also returns the 4x4 matrix from new indices to old,
    so that ``affine @ matrix`` is the new affine.
    """
    count = data.ndim - 1
    shape = np.array(data.shape[1:])
    centre = (shape - 1) / 2
    offset = centre - matrix @ centre + shift * shape
    moved = np.eye(4)
    moved[:count, :count] = matrix
    moved[:count, 3] = offset
    if np.array_equal(moved, np.eye(4)):
        return data, moved
    from scipy.ndimage import affine_transform

    # scipy's stubs know a single offset only.
    options: dict[str, Any] = {"offset": offset, "order": order, "mode": "constant", "cval": fill}
    channels = [affine_transform(channel, matrix, **options) for channel in data]
    return np.stack(channels), moved


def bias_curve(space: Space, strengths: tuple[float, ...]) -> np.ndarray:
    """Return a polynomial of degree 2 on the grid, ``*space``: one strength per linear, then per quadratic term."""
    sides = np.meshgrid(*(np.linspace(-1, 1, size) for size in space), indexing="ij", sparse=True)
    terms = [*sides, *(first * second for first, second in combinations_with_replacement(sides, 2))]
    curve = np.zeros(space)
    for strength, term in zip(strengths, terms, strict=True):
        curve = curve + strength * term
    return curve


Strength = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class AugmenterConfig(PartConfig):
    """The largest strength of each change. Strengths are drawn uniformly up to it; 0 switches a change off.

    ``rotation_deg`` about each axis (mm, not pixels); ``scale`` 0.1 = 0.9 to 1.1 times; ``shift`` part of each side;
    ``gamma`` 0.2 = exponents 1/1.2 to 1.2; ``window`` jitter of width and centre as a fraction of the range (CT);
    ``bias_field`` strength of a smooth factor exp(field) (MRI); ``blur`` standard deviation in pixels; ``noise``
    standard deviation in the canonical range of width 2. There are no flips and no changes of hue, because side and
    grey level carry findings.
    """

    rotation_deg: Annotated[float, Field(ge=0, le=45)] = 7.0
    scale: Fraction = 0.08
    shift: Fraction = 0.04
    gamma: Strength = 0.15
    window: Fraction = 0.0
    bias_field: Strength = 0.0
    blur: Strength = 0.7
    noise: Strength = 0.03

    def build(self) -> GridAugmenter:
        """Make the augmenter."""
        return GridAugmenter(self)


@dataclass(frozen=True)
class AugmentationParams:
    """The parameters of one augmentation; `GridAugmenter.apply` applies them. ``meta["view"]`` holds them."""

    angles_deg: tuple[float, ...]
    scale: float
    shift: tuple[float, ...]
    gamma: float
    window: tuple[float, float]
    bias: tuple[float, ...]
    blur: float
    noise: float
    noise_seed: int

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as plain values."""
        return asdict(self)


class GridAugmenter:
    """Augment ``channel *space`` in [-1, 1], in 2-D and 3-D."""

    keeps = ("side", "range", "shape", "landmarks")

    def __init__(self, config: AugmenterConfig) -> None:
        self.config = config

    def view(self, sample: Sample, generator: Generator) -> Sample:
        """Return the augmented sample, float32 in [-1, 1]; its geometry states where the pixels now lie."""
        return self.apply(sample, self.draw(generator, np.ndim(sample.data) - 1))

    def draw(self, generator: Generator, axes: int) -> AugmentationParams:
        """Draw the parameters for data with 2 or 3 axes; always with the same number of draws."""
        import torch

        def signed(count: int) -> list[float]:
            return (
                torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64) * 2 - 1
            ).tolist()

        config = self.config
        angles, (zoom, power), shift, window = signed(3), signed(2), signed(3), signed(2)
        bias, (blur, noise) = signed(9), signed(2)
        return AugmentationParams(
            angles_deg=tuple(config.rotation_deg * angle for angle in angles[: 1 if axes == 2 else 3]),
            scale=1 + config.scale * zoom,
            shift=tuple(config.shift * part for part in shift[:axes]),
            gamma=(1 + config.gamma) ** power,
            window=(1 + config.window * window[0], config.window * window[1]),
            bias=tuple(config.bias_field * part for part in bias[: 5 if axes == 2 else 9]),
            blur=config.blur * abs(blur),
            noise=config.noise * abs(noise),
            noise_seed=int(torch.randint(2**62, (), generator=generator, device=generator.device)),
        )

    def apply(self, sample: Sample, params: AugmentationParams) -> Sample:
        """Move the sample, then change its brightness, blur it and add noise, in the order of a scanner."""
        data, geometry = np.asarray(sample.data, dtype=np.float64), sample.geometry
        spacing = (1.0,) * (data.ndim - 1) if geometry is None else geometry.spacing_mm
        matrix = rotation(params.angles_deg, spacing) * params.scale
        data, moved = warp(data, matrix, np.array(params.shift), fill=-1.0)
        data = self._add_noise(_adjust_brightness(data, params), params)
        if geometry is not None:
            geometry = replace(geometry, affine=geometry.affine @ moved)
        meta = {**sample.meta, "view": params.as_dict()}
        return replace(sample, data=np.clip(data, -1, 1).astype(np.float32), geometry=geometry, meta=meta)

    def _add_noise(self, data: np.ndarray, params: AugmentationParams) -> np.ndarray:
        if params.blur:
            from scipy.ndimage import gaussian_filter

            data = gaussian_filter(data, (0, *(params.blur for _ in data.shape[1:])), mode="nearest")
        if not params.noise:
            return data
        draws = np.random.default_rng(params.noise_seed)
        return data + params.noise * draws.standard_normal(data.shape)


def _adjust_brightness(data: np.ndarray, params: AugmentationParams) -> np.ndarray:
    """Apply window, bias field and gamma to brightness in [0, 1]."""
    width, centre = params.window
    light = np.clip((data / width - centre + 1) / 2, 0, 1)
    if any(params.bias):
        light = np.clip(light * np.exp(bias_curve(data.shape[1:], params.bias)), 0, 1)
    return light**params.gamma * 2 - 1
