"""Draw the numbers that describe a patient's body, once, so that every modality images the same body."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Anatomy:
    """Hold a patient's dimensions, mm, in the axes of `Grid`; z = 0 is about 5 cm below the tracheal bifurcation.

    ``cage_half_width`` and ``cage_half_depth`` are those of the pleural cavity where it is widest. ``apex_z``: top of
    the lungs. ``dome_z``: tops of the (right, left) diaphragm. ``heart_scale`` multiplies the heart's radii.
    ``kyphosis`` bends the spine backwards in mid-chest, ``scoliosis`` sideways. ``organic`` scales the random bumps.
    """

    sex: Literal["female", "male"]
    cage_half_width: float
    cage_half_depth: float
    apex_z: float
    dome_z: tuple[float, float]
    fat: float
    muscle: float
    shoulder_half_width: float
    breast: float
    heart_scale: float
    heart_tilt: float
    aorta_radius: float
    knob: float
    mediastinum: float
    kyphosis: float
    scoliosis: float
    rib_slope: float
    bone_scale: float
    vessel_scale: float
    stomach_gas: float
    organic: float
    shift: tuple[float, float]

    def about(self) -> dict[str, Any]:
        """Return the values for the parameter file, rounded to a hundredth."""
        rounded = {key: round(value, 2) for key, value in asdict(self).items() if isinstance(value, float)}
        pairs = {"dome_z": [round(z, 2) for z in self.dome_z], "shift": [round(step, 2) for step in self.shift]}
        return {"sex": self.sex, **rounded, **pairs}


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw an adult. Means and standard deviations differ by sex; habitus runs from slim to obese."""
    female = bool(rng.random() < 0.5)
    fat = float(np.clip(rng.gamma(3.0, 4.5 if female else 3.8) + 4, 5, 34))
    dome = float(rng.normal(-62, 8))
    stature = float(rng.normal(0, 1))
    return Anatomy(
        sex="female" if female else "male",
        cage_half_width=float(np.clip((126 if female else 138) + 3 * stature + rng.normal(0, 5), 112, 155)),
        cage_half_depth=float(np.clip((80 if female else 88) + 1.5 * stature + 0.25 * fat + rng.normal(0, 5), 68, 108)),
        apex_z=float(128 + 5 * stature + rng.normal(0, 4)),
        dome_z=(dome, dome - float(np.clip(rng.normal(11, 5), 0, 25))),
        fat=fat,
        muscle=float(np.clip(rng.normal(9 if female else 12, 2.5), 5, 18)),
        shoulder_half_width=float((168 if female else 186) + 4 * stature + 0.5 * fat),
        breast=float(np.clip(rng.normal(40, 14) + 0.5 * fat, 18, 62)) if female else 0.0,
        heart_scale=float(np.clip(rng.normal(0.97, 0.045), 0.86, 1.07)),
        heart_tilt=float(rng.normal(0, 0.12)),
        aorta_radius=float(np.clip(rng.normal(12.5, 1.6), 9, 17)),
        knob=float(rng.normal(0, 4)),
        mediastinum=float(np.clip(rng.normal(1, 0.1), 0.8, 1.3)),
        kyphosis=float(np.clip(rng.normal(14, 7), 0, 35)),
        scoliosis=float(rng.normal(0, 4)),
        rib_slope=float(rng.normal(1, 0.12)),
        bone_scale=float(np.clip(rng.normal(1, 0.15), 0.6, 1.4)),
        vessel_scale=float(np.clip(rng.normal(1, 0.15), 0.6, 1.5)),
        stomach_gas=float(rng.random()),
        organic=float(rng.uniform(0.5, 1.5)),
        shift=(float(rng.normal(0, 5)), float(rng.normal(0, 6))),
    )
