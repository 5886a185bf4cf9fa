"""Chest radiographs: the frontal and the lateral view, each a modality."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """Return the modalities ``xray_frontal`` and ``xray_lateral``."""
    from plugins.xray.modality import FRONTAL, LATERAL

    return (FRONTAL, LATERAL)
