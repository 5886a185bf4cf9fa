"""MIMIC-CXR: chest X-rays of both views with their reports, whole or as impressions."""

from __future__ import annotations

from plugins.public_datasets.mimic_cxr.adapter import MIMIC_CXR, MIMIC_CXR_IMPRESSION

__all__ = ["MIMIC_CXR", "MIMIC_CXR_IMPRESSION"]
