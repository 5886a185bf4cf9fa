"""A computed cohort: one parametric torso per patient, seen by every modality, with known findings."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import DatasetAdapter, hookimpl


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """The data set ``phantom``."""
    from plugins.phantom.datasets import PHANTOM

    return (PHANTOM,)
