"""Build the organs below the diaphragm."""

from __future__ import annotations

from plugins.phantom.anatomy.anatomy import Anatomy
from plugins.phantom.anatomy.cavity import Cavity
from plugins.phantom.geometry.grid import Grid
from plugins.phantom.geometry.layers import Layer
from plugins.phantom.geometry.shapes import ellipsoid, profile, voxel_fraction


def abdomen_layers(grid: Grid, anatomy: Anatomy, cavity: Cavity) -> list[Layer]:
    """Return visceral fat, liver under the right dome and across the midline, spleen, and stomach with gas bubble."""
    below = cavity.cage * voxel_fraction(cavity.above, grid.spacing_mm)
    layers = [Layer("visceral", grid.whole, below, organ="abdomen")]
    # The liver hangs from the dome: full on the right, thinning to the left.
    depth = profile(grid.x, (-70, -20, 40, 160), (0, 45, 125, 140))
    liver = (
        below * voxel_fraction(-cavity.above - depth, grid.spacing_mm) * voxel_fraction(-60 - grid.x, grid.spacing_mm)
    )
    liver = liver * voxel_fraction(3 - cavity.wall, grid.spacing_mm)
    layers.append(Layer("liver", grid.whole, liver, organ="liver"))
    side, (_, dome) = anatomy.cage_half_width, anatomy.dome_z
    box, spleen = ellipsoid(
        grid, (-0.68 * side, -0.42 * anatomy.cage_half_depth, dome - 52), (50, 30, 32), (0.3, 0.2, 1)
    )
    layers.append(Layer("spleen", box, spleen * below[box], organ="spleen"))
    box, stomach = ellipsoid(grid, (-0.44 * side, 14.0, dome - 46), (44, 36, 42), (0, 0.3, 1))
    stomach = stomach * below[box]
    layers.append(Layer("stomach", box, stomach, organ="stomach"))
    # Gas rises: the stomach is filled with it down to a level.
    gas_level = dome - 12 - 34 * anatomy.stomach_gas
    _, _, z = grid.inside(box)
    gas = (
        stomach
        * voxel_fraction(gas_level - z, grid.spacing_mm)
        * voxel_fraction(7 + cavity.above[box], grid.spacing_mm)
    )
    layers.append(Layer("air", box, gas, organ="stomach"))
    return layers
