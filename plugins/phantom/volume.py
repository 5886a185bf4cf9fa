"""Compute whole CT and MRI volumes: every axial plane of the work grid, the cohort's slice among them bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from core.api import Geometry, Sample
from plugins.phantom.files import mask_column
from plugins.phantom.geometry.layers import mix_tissues
from plugins.phantom.imaging.masks import finding_mask, organ_mask
from plugins.phantom.imaging.scan import (
    WEIGHTINGS,
    CtDraw,
    MriDraw,
    ct_image,
    ct_texture,
    draw_ct,
    draw_mri,
    mri_bias,
    mri_image,
    mri_noise,
    mri_texture,
    tissue_signals,
)
from plugins.phantom.imaging.section import Section
from plugins.phantom.study import PIXELS, Study, make_generators

_KNOT = 12  # planes, 48 mm, between two independent textures or bias fields


def volumes_of(study: Study, seed: int, patient: int) -> dict[str, Sample]:
    """Return CT, MRI in three contrasts and both masks, float32 ``1 D H W`` on a common grid.

    Slices run superior, 4 mm apart. Noise and texture of the cohort's slice are those of the cohort; every other slice
    has independent draws.
    """
    section = Section(study.body.grid, study.parameters["slice"]["level"], PIXELS)
    geometry = volume_geometry(section)
    data = {"ct": _ct(study, section, seed, patient), **_mri(study, section, seed, patient)}
    for name, mask in (("organs", organ_mask), ("findings", finding_mask)):
        slices = [mask(study.body, replace(section, level=level)) for level in range(geometry.shape[0])]
        data[mask_column(name)] = np.concatenate(slices)
    return {name: Sample(modality=name, data=volume[None], geometry=geometry) for name, volume in data.items()}


def volume_geometry(section: Section) -> Geometry:
    """Return the geometry of all slices of a section's grid, axes (slice, row, column)."""
    affine = section.geometry.affine[:, [2, 0, 1, 3]]
    heights = section.grid.axis(2)
    affine[2, 3] = float(heights[0])
    return Geometry(affine=affine, shape=(len(heights), section.pixels, section.pixels))


def _ct(study: Study, section: Section, seed: int, patient: int) -> np.ndarray:
    planes = _resampled_planes(section, study.body.volume_hu, -1000.0)
    draws = _ct_draws(section, seed, patient)
    return np.concatenate([ct_image(plane, draw) for plane, draw in zip(planes, draws, strict=True)])


def _mri(study: Study, section: Section, seed: int, patient: int) -> dict[str, np.ndarray]:
    body, draws = study.body, list(_mri_draws(section, seed, patient))
    volumes = {}
    for name, weighting in WEIGHTINGS.items():
        signal = mix_tissues(body.grid, body.layers, tissue_signals(weighting), 0.0)
        planes = zip(_resampled_planes(section, signal, 0.0), draws, strict=True)
        volumes[name] = np.concatenate([mri_image(plane, draw, name) for plane, draw in planes])
    return volumes


def _resampled_planes(section: Section, volume: np.ndarray, outside: float) -> Iterator[np.ndarray]:
    """Yield every plane as an image ``H W``."""
    return (section.resampled(volume[:, :, level], outside) for level in range(volume.shape[2]))


def _ct_draws(section: Section, seed: int, patient: int) -> Iterator[CtDraw]:
    shape, rng = (section.pixels,) * 2, _generator(seed, patient, 0)
    cohort_draw = draw_ct(make_generators(seed, patient)["ct"], shape)
    textures = _fields(section, cohort_draw.texture, lambda: ct_texture(rng, shape))
    for level, texture in enumerate(textures):
        noise = cohort_draw.noise if level == section.level else rng.standard_normal(shape)
        yield CtDraw(texture, noise, cohort_draw.noise_hu)


def _mri_draws(section: Section, seed: int, patient: int) -> Iterator[MriDraw]:
    shape, rng = (section.pixels,) * 2, _generator(seed, patient, 1)
    cohort_draw = draw_mri(make_generators(seed, patient)["mri"], shape)
    textures = _fields(section, cohort_draw.texture, lambda: mri_texture(rng, shape))
    biases = {name: _fields(section, cohort_draw.bias[name], lambda: mri_bias(rng, shape)) for name in WEIGHTINGS}
    for level, texture in enumerate(textures):
        bias = {name: fields[level] for name, fields in biases.items()}
        noise = {name: mri_noise(rng, cohort_draw.sigma, shape) for name in WEIGHTINGS}
        yield MriDraw(texture, cohort_draw.sigma, bias, cohort_draw.noise if level == section.level else noise)


def _generator(seed: int, patient: int, purpose: int) -> np.random.Generator:
    """Return the generator for CT (0) or MRI (1); 1 and 2 after the seed belong to the cohort's slices and reports."""
    return np.random.default_rng(np.random.SeedSequence((seed, 3, patient)).spawn(2)[purpose])


def _fields(section: Section, cohort_field: np.ndarray, draw: Callable[[], np.ndarray]) -> list[np.ndarray]:
    """Return a field per plane: ``cohort_field`` on the section's plane, independent ones far above and below it.

    Between two knots the fields are mixed by raised cosines, and the standard deviation stays the same.
    """
    num = section.grid.shape[2]
    positions = (np.arange(num) - section.level) / _KNOT
    first, last = int(positions[0]) - 1, int(positions[-1]) + 1
    knots = {knot: cohort_field if knot == 0 else draw() for knot in range(first, last + 1)}
    fields = []
    for position in positions:
        low = int(np.floor(position))
        weight = (1 - np.cos(np.pi * (position - low))) / 2
        mixed = (1 - weight) * knots[low] + weight * knots[low + 1]
        fields.append((mixed / np.hypot(1 - weight, weight)).astype(cohort_field.dtype))
    return fields
