"""The flow of the main job on real images and reports, all phases, 60 steps each: that it runs, not what it reaches.

The folders of ``openi_cxr``, ``medpix_ct_mr`` and ``harvard_ct_mr_pet_spect`` lie in ``MEDWEAVE_DATA``. Sixty steps
teach nothing, so the table that the run prints is not kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cases.main_job import stages, trained

DATA = "openi_cxr,medpix_ct_mr,harvard_ct_mr_pet_spect"


def measure() -> list[dict[str, Any]]:
    """Rows: the whole and its stages with their seconds."""
    whole, ended = trained(Path("runs/benchmark-real-data"), "--data", DATA, "--steps", "60")
    return [whole, *stages(ended)]
