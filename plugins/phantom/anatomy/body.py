"""Build a patient's body: all layers in the order in which they are painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from plugins.phantom.anatomy.abdomen import abdomen_layers
from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import build_cavity
from plugins.phantom.anatomy.findings import Finding
from plugins.phantom.anatomy.heart_and_vessels import airway_layers, heart_layers, mediastinum_layer, vessel_layers
from plugins.phantom.anatomy.lesions import atelectasis_layers, consolidation_layers, edema_layers, lesion_layers
from plugins.phantom.anatomy.lungs import lung_layers
from plugins.phantom.anatomy.outline import outline_layers
from plugins.phantom.anatomy.pleura import effusion_layers, pneumothorax_layers
from plugins.phantom.anatomy.skeleton import bone_layers
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import Layer, mix_tissues

_IN_LUNG: dict[str, Callable[..., list[Layer]]] = {
    "edema": edema_layers,
    "atelectasis": atelectasis_layers,
    "consolidation": consolidation_layers,
    "lung_lesion": lesion_layers,
}
_IN_PLEURA: dict[str, Callable[..., list[Layer]]] = {
    "pneumothorax": pneumothorax_layers,
    "pleural_effusion": effusion_layers,
}


@dataclass(frozen=True, eq=False)
class Body:
    """Hold layers on a grid, and the patient's mean Hounsfield units by tissue."""

    grid: Grid
    layers: tuple[Layer, ...]
    hu: dict[str, float]

    @cached_property
    def volume_hu(self) -> np.ndarray:
        """Return the CT numbers without a scanner's noise, HU, float32 ``[x, y, z]``."""
        return mix_tissues(self.grid, self.layers, self.hu, -1000.0)


def build_body(
    grid: Grid, anatomy: Anatomy, findings: tuple[Finding, ...], hu: dict[str, float], rng: np.random.Generator
) -> Body:
    """Return the body that these numbers describe. ``rng`` decides only texture, branches and positions in a zone."""
    streams = rng.spawn(4 + len(_IN_LUNG))
    cavity = build_cavity(grid, anatomy, findings, streams[0])
    layers = outline_layers(grid, anatomy, streams[1])
    layers += abdomen_layers(grid, anatomy, cavity)
    layers.append(mediastinum_layer(grid, cavity))
    layers += lung_layers(grid, anatomy, cavity, streams[2])
    present = {finding.name: finding for finding in findings}
    for (name, paint), stream in zip(_IN_LUNG.items(), streams[4:], strict=True):
        if name in present:
            layers += paint(grid, anatomy, cavity, present[name], stream)
    for name, paint in _IN_PLEURA.items():
        if name in present:
            layers += paint(grid, anatomy, cavity, present[name])
    layers += heart_layers(grid, anatomy, findings)
    layers += vessel_layers(grid, anatomy)
    layers += airway_layers(grid, anatomy)
    layers += bone_layers(grid, anatomy)
    return Body(grid, tuple(layers), hu)
