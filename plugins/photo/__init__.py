"""Colour photographs and microscopy: seven kinds of picture that share their networks."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """``photo_dermoscopy``, ``photo_fundus``, ``photo_oct``, ``photo_histopathology`` and the others of this family."""
    from plugins.photo.modality import MODALITIES

    return MODALITIES
