"""Make the masks of a slice: organs and findings."""

from __future__ import annotations

import numpy as np

from core.io import CHEST_ORGANS
from plugins.phantom.anatomy.body import Body
from plugins.phantom.anatomy.findings import FINDINGS
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import layers_at_level, visible_fraction
from plugins.phantom.imaging.section import Section

ORGANS = CHEST_ORGANS


def organ_mask(body: Body, section: Section) -> np.ndarray:
    """Return 0 outside, else 1 + the index in `ORGANS` of the organ with most of the pixel, float32 ``1 H W``.

    Findings count as lung.
    """
    flat, layers = _flat(body, section)
    fractions = [section.resampled(visible_fraction(flat, layers, organ=organ)[:, :, 0], 0.0) for organ in ORGANS]
    fractions[1] = fractions[1] + sum(_finding_fractions(body, section))
    stack = np.stack([1 - np.clip(sum(fractions), 0, 1), *fractions])
    return np.argmax(stack, axis=0)[None].astype(np.float32)


def finding_mask(body: Body, section: Section) -> np.ndarray:
    """Return 0, or 1 + the index in `FINDINGS` of the finding with most of the pixel, float32 ``1 H W``.

    A finding needs at least a fifth of the pixel. Cardiomegaly has no region: see the heart in `organ_mask`.
    """
    stack = np.stack([np.full((section.pixels,) * 2, 0.2, np.float32), *_finding_fractions(body, section)])
    return np.argmax(stack, axis=0)[None].astype(np.float32)


def _flat(body: Body, section: Section) -> tuple[Grid, list]:
    flat = Grid((body.grid.shape[0], body.grid.shape[1], 1), body.grid.spacing_mm)
    return flat, layers_at_level(body.grid, body.layers, section.level)


def _finding_fractions(body: Body, section: Section) -> list[np.ndarray]:
    flat, layers = _flat(body, section)
    present = {layer.finding for layer in layers}
    blank = np.zeros((section.pixels,) * 2, np.float32)
    return [
        section.resampled(visible_fraction(flat, layers, finding=name)[:, :, 0], 0.0) if name in present else blank
        for name in FINDINGS
    ]
