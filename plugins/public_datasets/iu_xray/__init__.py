"""IU X-ray: chest X-rays of Indiana University with their reports, in the three layouts in which they are published."""

from __future__ import annotations

from plugins.public_datasets.iu_xray.adapter import IU_XRAY

__all__ = ["IU_XRAY"]
