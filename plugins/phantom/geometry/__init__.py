"""Geometry of the phantom: the work grid, shapes, smooth random fields and layers of tissue.

The package imports nothing else of the phantom. Lengths are in mm.
"""
