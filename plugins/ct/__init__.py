"""Computed tomography in Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """Return the modality ``ct``."""
    from plugins.ct.modality import CT

    return (CT,)
