"""A computed cohort: a parametric torso per patient, imaged by every modality, with known findings.

``geometry`` holds grid, shapes and layers; ``anatomy`` builds the body of them; ``imaging`` makes images of the body;
``report`` writes and reads reports. Each package imports only those named before it, and ``report`` only ``anatomy``.
``models`` is no package: it holds a model that was trained on the cohort, as ``core.export`` has written it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.api import DatasetAdapter, PackagedModel, hookimpl


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """Return the adapter of the data set ``phantom``."""
    from plugins.phantom.datasets import PHANTOM

    return (PHANTOM,)


@hookimpl
def register_models() -> Sequence[PackagedModel]:
    """Return the model ``phantom``: report, both X-ray views, CT and MRI of computed patients."""
    title = "Report, chest X-ray in two views, CT and MRI; trained on computed patients"
    return (PackagedModel(name="phantom", title=title, folder=Path(__file__).parent / "models" / "phantom"),)
