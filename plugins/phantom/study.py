"""Compute a patient from a seed: body, images, report and parameters, all in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.api import Sample
from plugins.phantom.anatomy.anatomy import Anatomy, draw_anatomy
from plugins.phantom.anatomy.body import Body, build_body
from plugins.phantom.anatomy.findings import Finding, draw_findings, labels_of
from plugins.phantom.anatomy.heart_and_vessels import heart_scale
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.imaging.masks import finding_mask, organ_mask
from plugins.phantom.imaging.projection import attenuation
from plugins.phantom.imaging.radiograph import View, radiograph
from plugins.phantom.imaging.scan import WEIGHTINGS, ct_slice, mri_slices
from plugins.phantom.imaging.section import Section, choose_level, finding_areas
from plugins.phantom.imaging.tissues import draw_hu
from plugins.phantom.report.grammar import write_report

PIXELS = 64
_STREAMS = ("anatomy", "findings", "tissues", "texture", "level", "ct", "mri", "frontal", "lateral", "report")


@dataclass(frozen=True, eq=False)
class Study:
    """Hold ``samples`` in original units by modality, ``masks`` on the CT's grid and ``parameters`` ready for JSON."""

    samples: Mapping[str, Sample]
    masks: Mapping[str, Sample]
    labels: Mapping[str, int]
    parameters: Mapping[str, Any]
    body: Body


def make_generators(seed: int, patient: int) -> dict[str, np.random.Generator]:
    """Return a random generator per purpose, which depends on cohort seed and patient number only."""
    sequences = np.random.SeedSequence((seed, 1, patient)).spawn(len(_STREAMS))
    return {name: np.random.default_rng(sequence) for name, sequence in zip(_STREAMS, sequences, strict=True)}


def make_study(seed: int, patient: int, findings: tuple[Finding, ...] | None = None, pixels: int = PIXELS) -> Study:
    """Return patient number ``patient`` of the cohort ``seed``; with ``findings``, the same body with those instead."""
    streams = make_generators(seed, patient)
    grid, anatomy = Grid(), draw_anatomy(streams["anatomy"])
    drawn = draw_findings(streams["findings"])
    findings = drawn if findings is None else findings
    body = build_body(grid, anatomy, findings, draw_hu(streams["tissues"]), streams["texture"])
    areas = finding_areas(grid, body.layers, findings)
    section = Section(grid, choose_level(grid, areas, streams["level"]), pixels)
    views = draw_views(anatomy, streams)
    samples = {**_slices(body, section, streams), **_projections(body, views, streams, pixels)}
    report = write_report(findings, streams["report"])
    samples["text"] = Sample(modality="text", data=report)
    masks = {"organs": organ_mask(body, section), "findings": finding_mask(body, section)}
    shown = {name: round(float(area[section.level]), 1) for name, area in areas.items()}
    parameters = {
        "seed": seed,
        "patient": patient,
        "anatomy": anatomy.about(),
        "heart_scale": round(heart_scale(anatomy, findings), 4),
        "findings": [finding.about() for finding in findings],
        "hu": {name: round(value, 1) for name, value in body.hu.items()},
        "slice": {"level": section.level, "z_mm": section.z_mm, "finding_area_mm2": shown},
        "views": {name: {"field_mm": view.field_mm, "centre_mm": list(view.centre_mm)} for name, view in views.items()},
        "spin_echo_ms": {name: weighting._asdict() for name, weighting in WEIGHTINGS.items()},
    }
    mask_samples = {name: Sample(modality=name, data=mask, geometry=section.geometry) for name, mask in masks.items()}
    return Study(samples, mask_samples, labels_of(findings), parameters, body)


def draw_views(anatomy: Anatomy, streams: Mapping[str, np.random.Generator]) -> dict[str, View]:
    """Draw the views: the radiographer's field fits the patient and is not quite centred."""
    views = {}
    for name in ("frontal", "lateral"):
        rng = streams[name]
        field = round(float(np.clip(2.62 * anatomy.cage_half_width + rng.normal(30, 14), 330, 430)), 1)
        first = anatomy.shift[0] if name == "frontal" else 0.0
        centre = (round(float(first + rng.normal(0, 5)), 1), round(float(anatomy.shift[1] + rng.normal(8, 5)), 1))
        views[name] = View(name, field, centre)
    return views


def _slices(body: Body, section: Section, streams: Mapping[str, np.random.Generator]) -> dict[str, Sample]:
    images = {"ct": ct_slice(body, section, streams["ct"]), **mri_slices(body, section, streams["mri"])}
    return {name: Sample(modality=name, data=data, geometry=section.geometry) for name, data in images.items()}


def _projections(
    body: Body, views: Mapping[str, View], streams: Mapping[str, np.random.Generator], pixels: int
) -> dict[str, Sample]:
    mu = attenuation(body.volume_hu)
    samples: dict[str, Sample] = {}
    for name, view in views.items():
        data, geometry = radiograph(mu, body.grid, view, pixels, streams[name])
        samples[f"xray_{name}"] = Sample(modality=f"xray_{name}", data=data, geometry=geometry)
    return samples
