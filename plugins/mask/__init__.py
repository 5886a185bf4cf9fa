"""Label maps of organs and findings."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """Return ``mask_organs`` and ``mask_findings``."""
    from plugins.mask.modality import FINDINGS, ORGANS

    return (ORGANS, FINDINGS)
