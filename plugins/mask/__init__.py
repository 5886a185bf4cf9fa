"""Maps of organs and findings: what lies where."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """``mask_organs`` and ``mask_findings``."""
    from plugins.mask.modality import FINDINGS, ORGANS

    return (ORGANS, FINDINGS)
