"""A caption from what labels say, for data sets without reports (MediSyn section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence


def caption(picture: str, findings: Sequence[str]) -> str:
    """``caption("Chest X-ray image", ["mass", "nodule"])`` is ``"Chest X-ray image showing mass and nodule."``"""
    *first, last = findings or ["no finding"]
    told = f"{', '.join(first)} and {last}" if first else last
    return f"{picture} showing {told.replace('_', ' ').lower()}."
