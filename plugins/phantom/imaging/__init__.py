"""Imaging of the phantom: radiographs, CT and MRI slices, and masks of a body.

The package imports ``anatomy`` and ``geometry`` and nothing else of the phantom.
"""
