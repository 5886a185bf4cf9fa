"""Anatomy of the phantom: organs, bones and findings, built of layers on the work grid.

The package imports ``geometry`` and nothing else of the phantom.
"""
