"""A computed cohort: a parametric torso per patient, imaged by every modality, with known findings.

``geometry`` holds grid, shapes and layers; ``anatomy`` builds the body of them; ``imaging`` makes images of the body;
``report`` writes and reads reports. Each package imports only those named before it, and ``report`` only ``anatomy``.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.api import DatasetAdapter, hookimpl


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """Return the adapter of the data set ``phantom``."""
    from plugins.phantom.datasets import PHANTOM

    return (PHANTOM,)
