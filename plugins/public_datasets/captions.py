"""Write captions from labels, for data sets without reports (MediSyn section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence


def caption_from_labels(image: str, findings: Sequence[str]) -> str:
    """Return a sentence that names the findings of an image.

    ``caption_from_labels("Chest X-ray image", ["mass", "nodule"])`` is ``"Chest X-ray image showing mass and nodule."``
    """
    *first, last = findings or ["no finding"]
    names = f"{', '.join(first)} and {last}" if first else last
    return f"{image} showing {names.replace('_', ' ').lower()}."
