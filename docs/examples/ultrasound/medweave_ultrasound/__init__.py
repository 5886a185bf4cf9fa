"""Breast ultrasound for MedWeave: one modality and one data set. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import DatasetAdapter, Modality, hookimpl


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """``ultrasound``."""
    from medweave_ultrasound.modality import ULTRASOUND

    return (ULTRASOUND,)


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """``busi``."""
    from medweave_ultrasound.datasets import BUSI

    return (BUSI,)
