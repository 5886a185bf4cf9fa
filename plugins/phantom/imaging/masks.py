"""What lies where on the slice: organs and findings."""

from __future__ import annotations

import numpy as np

from core.io import CHEST_ORGANS
from plugins.phantom.anatomy.body import Body
from plugins.phantom.anatomy.findings import FINDINGS
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import cut, visible_fraction
from plugins.phantom.imaging.section import Section

ORGANS = CHEST_ORGANS


def organ_mask(body: Body, section: Section) -> np.ndarray:
    """0 outside, else 1 + the place in `ORGANS` of what takes most of the pixel, ``1 H W``. Findings count as lung."""
    flat, layers = _flat(body, section)
    shares = [section.resampled(visible_fraction(flat, layers, organ=organ)[:, :, 0], 0.0) for organ in ORGANS]
    shares[1] = shares[1] + sum(_finding_fractions(body, section))
    stack = np.stack([1 - np.clip(sum(shares), 0, 1), *shares])
    return np.argmax(stack, axis=0)[None].astype(np.float32)


def finding_mask(body: Body, section: Section) -> np.ndarray:
    """0, or 1 + the place in `FINDINGS` of the finding that takes most of the pixel (at least a fifth), ``1 H W``.

    Cardiomegaly has no place of its own: see the heart in `organ_mask`.
    """
    stack = np.stack([np.full((section.pixels,) * 2, 0.2, np.float32), *_finding_fractions(body, section)])
    return np.argmax(stack, axis=0)[None].astype(np.float32)


def _flat(body: Body, section: Section) -> tuple[Grid, list]:
    flat = Grid((body.grid.shape[0], body.grid.shape[1], 1), body.grid.spacing_mm)
    return flat, cut(body.grid, body.layers, section.level)


def _finding_fractions(body: Body, section: Section) -> list[np.ndarray]:
    flat, layers = _flat(body, section)
    here = {layer.finding for layer in layers}
    blank = np.zeros((section.pixels,) * 2, np.float32)
    return [
        section.resampled(visible_fraction(flat, layers, finding=name)[:, :, 0], 0.0) if name in here else blank
        for name in FINDINGS
    ]
