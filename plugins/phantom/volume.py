"""The whole body in a scanner: every axial plane of the work grid, the cohort's own slice among them bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from core.api import Geometry, Sample
from plugins.phantom.files import mask_column
from plugins.phantom.geometry.layers import composed
from plugins.phantom.imaging.masks import finding_mask, organ_mask
from plugins.phantom.imaging.scan import (
    WEIGHTINGS,
    CtDraw,
    MriDraw,
    ct_picture,
    ct_texture,
    draw_ct,
    draw_mri,
    mri_bias,
    mri_noise,
    mri_picture,
    mri_texture,
    tissue_signals,
)
from plugins.phantom.imaging.section import Section
from plugins.phantom.study import PIXELS, Study, streams_of

_KNOT = 12  # planes, 48 mm, between two independent textures or bias fields


def volumes_of(study: Study, seed: int, patient: int) -> dict[str, Sample]:
    """CT, MRI in three contrasts and both masks, float32 ``1 D H W`` on one grid: slices run superior, 4 mm apart.

    Noise and texture of the cohort's slice are those of the cohort; the other slices have draws of their own.
    """
    section = Section(study.body.grid, study.parameters["slice"]["level"], PIXELS)
    geometry = volume_geometry(section)
    data = {"ct": _ct(study, section, seed, patient), **_mri(study, section, seed, patient)}
    for name, mask in (("organs", organ_mask), ("findings", finding_mask)):
        slices = [mask(study.body, replace(section, level=level)) for level in range(geometry.shape[0])]
        data[mask_column(name)] = np.concatenate(slices)
    return {name: Sample(modality=name, data=volume[None], geometry=geometry) for name, volume in data.items()}


def volume_geometry(section: Section) -> Geometry:
    """The slices of a section's grid in its plane, axes (slice, row, column)."""
    affine = section.geometry.affine[:, [2, 0, 1, 3]]
    heights = section.grid.axis(2)
    affine[2, 3] = float(heights[0])
    return Geometry(affine=affine, shape=(len(heights), section.pixels, section.pixels))


def _ct(study: Study, section: Section, seed: int, patient: int) -> np.ndarray:
    planes = _sampled(section, study.body.volume_hu, -1000.0)
    draws = _ct_draws(section, seed, patient)
    return np.concatenate([ct_picture(plane, draw) for plane, draw in zip(planes, draws, strict=True)])


def _mri(study: Study, section: Section, seed: int, patient: int) -> dict[str, np.ndarray]:
    body, draws = study.body, list(_mri_draws(section, seed, patient))
    volumes = {}
    for name, weighting in WEIGHTINGS.items():
        signal = composed(body.grid, body.layers, tissue_signals(weighting), 0.0)
        planes = zip(_sampled(section, signal, 0.0), draws, strict=True)
        volumes[name] = np.concatenate([mri_picture(plane, draw, name) for plane, draw in planes])
    return volumes


def _sampled(section: Section, volume: np.ndarray, outside: float) -> Iterator[np.ndarray]:
    """Every plane as a picture ``H W``."""
    return (section.sampled(volume[:, :, level], outside) for level in range(volume.shape[2]))


def _ct_draws(section: Section, seed: int, patient: int) -> Iterator[CtDraw]:
    shape, rng = (section.pixels,) * 2, _generator(seed, patient, 0)
    own = draw_ct(streams_of(seed, patient)["ct"], shape)
    textures = _fields(section, own.texture, lambda: ct_texture(rng, shape))
    for level, texture in enumerate(textures):
        noise = own.noise if level == section.level else rng.standard_normal(shape)
        yield CtDraw(texture, noise, own.noise_hu)


def _mri_draws(section: Section, seed: int, patient: int) -> Iterator[MriDraw]:
    shape, rng = (section.pixels,) * 2, _generator(seed, patient, 1)
    own = draw_mri(streams_of(seed, patient)["mri"], shape)
    textures = _fields(section, own.texture, lambda: mri_texture(rng, shape))
    biases = {name: _fields(section, own.bias[name], lambda: mri_bias(rng, shape)) for name in WEIGHTINGS}
    for level, texture in enumerate(textures):
        bias = {name: fields[level] for name, fields in biases.items()}
        noise = {name: mri_noise(rng, own.sigma, shape) for name in WEIGHTINGS}
        yield MriDraw(texture, own.sigma, bias, own.noise if level == section.level else noise)


def _generator(seed: int, patient: int, purpose: int) -> np.random.Generator:
    """Of a purpose here; 1 and 2 behind the seed belong to the cohort's slices and reports."""
    return np.random.default_rng(np.random.SeedSequence((seed, 3, patient)).spawn(2)[purpose])


def _fields(section: Section, own: np.ndarray, draw: Callable[[], np.ndarray]) -> list[np.ndarray]:
    """A field per plane that is ``own`` on the section's and turns into independent ones above and below.

    Between two knots the fields are mixed by raised cosines, and the spread is kept.
    """
    num = section.grid.shape[2]
    places = (np.arange(num) - section.level) / _KNOT
    knots = {knot: own if knot == 0 else draw() for knot in range(int(places[0]) - 1, int(places[-1]) + 2)}
    fields = []
    for place in places:
        low = int(np.floor(place))
        weight = (1 - np.cos(np.pi * (place - low))) / 2
        mixed = (1 - weight) * knots[low] + weight * knots[low + 1]
        fields.append((mixed / np.hypot(1 - weight, weight)).astype(own.dtype))
    return fields
