"""Build heart, great vessels, trachea, main bronchi and oesophagus."""

from __future__ import annotations

import numpy as np

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import Cavity, spine_line
from plugins.phantom.anatomy.findings import Finding, find
from plugins.phantom.geometry.grid import Grid, Point
from plugins.phantom.geometry.layers import Layer
from plugins.phantom.geometry.shapes import ellipsoid, tube


def heart_scale(anatomy: Anatomy, findings: tuple[Finding, ...]) -> float:
    """Return the factor of the heart's radii. Mild cardiomegaly overlaps with normal hearts, as it does in patients."""
    large = find(findings, "cardiomegaly")
    return anatomy.heart_scale if large is None else anatomy.heart_scale + 0.015 + 0.42 * large.severity**1.35


def heart_layers(grid: Grid, anatomy: Anatomy, findings: tuple[Finding, ...]) -> list[Layer]:
    """Return epicardial fat, myocardium and the blood of four chambers, to the patient's left, on the diaphragm."""
    size = heart_scale(anatomy, findings) * anatomy.cage_half_width / 132
    tilt = anatomy.heart_tilt
    axis: Point = (-0.66, 0.48, -0.52 - tilt)
    floor = (anatomy.dome_z[0] + anatomy.dome_z[1]) / 2
    # A growing heart grows to the left and down, its base stays.
    x, y, z = -20 - 22 * (size - 1), 14 + 8 * (size - 1), floor + 34 + 18 * (size - 1)
    layers: list[Layer] = []

    def add(tissue: str, centre: Point, radii: Point, direction: Point = axis) -> None:
        box, fraction = ellipsoid(grid, centre, (size * radii[0], size * radii[1], size * radii[2]), direction)
        layers.append(Layer(tissue, box, fraction, organ="heart"))

    add("visceral", (x, y, z), (64, 49, 48))
    add("myocardium", (x, y, z), (61, 46, 45))
    add("myocardium", (x + 42 * size, y - 12, z + 6), (24, 28, 40), (0.1, 0.1, 1.0))
    add("blood", (x - 10 * size, y - 14 * size, z - 2), (40, 20, 20))
    add("blood", (x + 10 * size, y + 22 * size, z - 6), (40, 16, 22))
    add("blood", (x + 42 * size, y - 10, z + 6), (19, 23, 35), (0.1, 0.1, 1.0))
    add("blood", (x + 12 * size, y - 34 * size, z + 20), (26, 17, 20), (1.0, 0.1, 0.0))
    return layers


def vessel_layers(grid: Grid, anatomy: Anatomy) -> list[Layer]:
    """Return aorta with left arch and its branches, pulmonary trunk and arteries, and both venae cavae."""
    radius = anatomy.aorta_radius
    knob = 46 + anatomy.knob
    heights = np.array([knob - 22, 0.0, -60, -130, -205])
    spine_x, spine_y = spine_line(anatomy, heights)
    descending = np.stack([spine_x - 24, spine_y + 14, heights], axis=1)
    arch = np.array(
        [(4, 18, -10), (14, 22, 14), (10, 18, 34), (-6, 2, knob + 4), (-22, -20, knob), (-28, -36, knob - 10)], float
    )
    aorta = np.concatenate([arch, descending])
    lines = [
        (aorta, radius),
        (np.array([(26.0, 6, -20), (25, 8, 20), (24, 8, 60)]), 8.5),
        (np.array([(24.0, 8, 60), (30, 4, 100), (30, 0, 140)]), 6.0),
        (np.array([(-14.0, 30, -6), (-22, 18, 18), (-24, 4, 26)]), 12.5),
        (np.array([(-24.0, 4, 26), (-36, -8, 20), (-52, -14, 10)]), 9.0),
        (np.array([(-20.0, 4, 20), (10, -2, 14), (38, -6, 6), (50, -10, -4)]), 9.0),
        (np.array([(22.0, -4, -50), (26, -12, -90), (24, -20, -200)]), 10.0),
        (np.array([(-14.0, -4, knob), (-20, -6, 90), (-30, -4, 150)]), 5.0),
        (np.array([(4.0, 10, knob - 4), (14, 4, 90), (24, 0, 150)]), 5.5),
    ]
    layers = []
    for points, inner in lines:
        for tissue, wall in (("vessel_wall", 1.8), ("blood", 0.0)):
            box, fraction = tube(grid, points, np.full(len(points), inner + wall))
            layers.append(Layer(tissue, box, fraction, organ="vessels"))
    return layers


def airway_layers(grid: Grid, anatomy: Anatomy) -> list[Layer]:
    """Return trachea and main bronchi with their walls, and the oesophagus behind them."""
    carina = np.array([2.0, -14, 30])
    lines = [
        (np.array([(0.0, 0, 210), (0, -2, 140), (1, -10, 80), carina]), 8.5),
        (np.array([carina, (20, -17, 12), (42, -18, -4)]), 6.8),
        (np.array([carina, (-18, -18, 14), (-44, -22, 2)]), 5.8),
        (np.array([(42.0, -18, -4), (52, -22, -28)]), 4.2),
        (np.array([(-44.0, -22, 2), (-52, -28, -22)]), 4.0),
    ]
    heights = np.array([140.0, 80, 30, -30, -90])
    spine_x, spine_y = spine_line(anatomy, heights)
    oesophagus = np.stack([spine_x - 6, spine_y + 26, heights], axis=1)
    box, fraction = tube(grid, oesophagus, np.full(5, 7.0))
    layers = [Layer("muscle", box, fraction, organ="airway")]
    for tissue, wall in (("cartilage", 1.6), ("air", 0.0)):
        for points, inner in lines:
            box, fraction = tube(grid, points, np.full(len(points), inner + wall))
            layers.append(Layer(tissue, box, fraction, organ="airway"))
    return layers


def mediastinum_layer(grid: Grid, cavity: Cavity) -> Layer:
    """Return the fat and connective tissue that fill the cavity before lungs and heart are painted."""
    return Layer("mediastinum", grid.whole, cavity.inside, organ="mediastinum")
