"""Colour photographs and microscopy: seven kinds of image that share their networks."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """Return ``photo_dermoscopy``, ``photo_fundus``, ``photo_oct``, ``photo_histopathology`` and the others."""
    from plugins.photo.modality import MODALITIES

    return MODALITIES
