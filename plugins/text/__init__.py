"""Reports, findings and captions as text."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """Return the modality ``text``."""
    from plugins.text.modality import TEXT

    return (TEXT,)
