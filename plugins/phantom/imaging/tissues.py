"""List the physical properties of every tissue: Hounsfield units, and proton density, T1 and T2 at 1.5 T.

docs/explanation/phantom.md gives the published range and the source of every number here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Tissue(NamedTuple):
    """Hold a tissue's properties: ``hu``, the lowest and highest mean of a patient, and MR properties at 1.5 T.

    ``density`` is the proton density relative to water.
    """

    hu: tuple[float, float]
    density: float
    t1_ms: float
    t2_ms: float


TISSUES: dict[str, Tissue] = {
    "air": Tissue((-1000, -1000), 0.0, 1000, 1),
    "lung": Tissue((-880, -820), 0.22, 1200, 35),
    "fat": Tissue((-115, -90), 0.90, 343, 58),
    "visceral": Tissue((-80, -40), 0.88, 430, 56),
    "muscle": Tissue((45, 60), 0.80, 1008, 44),
    "gland": Tissue((10, 40), 0.82, 800, 54),
    "mediastinum": Tissue((-60, 0), 0.85, 500, 55),
    "vessel_wall": Tissue((35, 50), 0.75, 1000, 45),
    "blood": Tissue((38, 50), 0.90, 1441, 290),
    "myocardium": Tissue((40, 55), 0.82, 1030, 40),
    "liver": Tissue((50, 65), 0.80, 576, 46),
    "spleen": Tissue((42, 54), 0.86, 1057, 79),
    "stomach": Tissue((10, 40), 0.88, 1200, 120),
    "cartilage": Tissue((80, 140), 0.65, 1024, 30),
    "disc": Tissue((60, 100), 0.72, 980, 90),
    "trabecular": Tissue((120, 240), 0.75, 549, 49),
    "cortical": Tissue((900, 1300), 0.06, 250, 1),
    "effusion": Tissue((2, 18), 1.0, 3200, 450),
    "consolidation": Tissue((15, 40), 0.85, 1200, 85),
    "lesion": Tissue((20, 45), 0.83, 1100, 78),
    "edema": Tissue((0, 20), 0.95, 1700, 130),
    "atelectasis": Tissue((25, 50), 0.80, 900, 60),
}
MOVING_BLOOD = 0.3  # spin echo loses most of the signal of blood that leaves the slice between the pulses


def draw_hu(rng: np.random.Generator) -> dict[str, float]:
    """Draw a patient's mean Hounsfield units, uniformly within each tissue's range."""
    return {name: float(rng.uniform(*tissue.hu)) for name, tissue in TISSUES.items()}
