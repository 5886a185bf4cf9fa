"""Magnetic resonance imaging."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """Return ``mri``, and ``mri_t1``, ``mri_t1c``, ``mri_t2``, ``mri_pd``, ``mri_flair`` for known contrasts."""
    from plugins.mri.modality import MODALITIES

    return MODALITIES
