"""Ablations of two papers in small: MedM2G's Table 7, MedCoDi-M's Tables 2 and 6, on the phantom.

    python benchmarks/run.py paper_tables

Needs the finished run of `main_job`, whose autoencoders every arm reuses. Figures are of test studies, mean and range
over three seeds. The papers' data, sizes and budgets are out of reach here: what can be compared is the direction.

- MedM2G, Table 7: central alignment (CA), latent cross-guided generation (LCAG), visual invariance (VI). Without CA the
  prompt encoders take one step of training.
- MedCoDi-M, Table 2: Frechet distance of generated views by what prompts them (T report, F frontal, L lateral view),
  trained with subsets of prompts or with single ones. Table 6: cosine of report and views in the shared space,
  generated together or each for itself.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arms import arm_rows, table_columns
from benchmarks.cases.agreement_by_grade import test_set_of
from benchmarks.cases.main_job import FLOW
from core.evaluate.images.fidelity import frechet_distance
from core.evaluate.test_set import joined

SHORT = ("training.diffuse.steps=300", "training.diffuse.steps_tokens=300", "training.guide.steps=60")
MEDM2G = ("recipe=medm2g", "data.pools=all")
TABLE_7: dict[str, tuple[str, ...]] = {
    "CA, LCAG, VI": (),
    "no CA": ("training.align.steps=1",),
    "no LCAG": ('phases.run=["autoencoder", "align", "diffuse"]',),
    "no VI": ("align.visual_invariance=false",),
    "none of them": (
        *("training.align.steps=1", "align.visual_invariance=false"),
        'phases.run=["autoencoder", "align", "diffuse"]',
    ),
}
COLUMNS_7 = {
    "frechet_frontal": ("xray_frontal: Fréchet distance, generated",),
    "report_f1": ("text from xray_frontal: report findings, micro F1, generated",),
    "mri_from_ct_db": ("mri from a given ct: PSNR dB",),
}
TABLE_2 = {"several prompts": (), "single prompts": ("prompt.sampling=single",)}
COMBINATIONS = {
    "TF": (("text",), "xray_frontal"),
    "LF": (("xray_lateral",), "xray_frontal"),
    "LTF": (("xray_lateral", "text"), "xray_frontal"),
    "TL": (("text",), "xray_lateral"),
    "FL": (("xray_frontal",), "xray_lateral"),
    "FTL": (("xray_frontal", "text"), "xray_lateral"),
}
COSINES = {
    f"cosine_{way}": (
        f"all coupled pairs, prompted by text: cosine, {way}",
        f"all coupled pairs, no prompt: cosine, {way}",
    )
    for way in ("joint", "independent")
}


def measure() -> list[dict[str, Any]]:
    """Rows of all three tables."""
    seventh = {
        f"MedM2G Table 7: {arm}": _flags(
            (*SHORT, _only("fidelity", "report findings", "translation"), *changes), MEDM2G
        )
        for arm, changes in TABLE_7.items()
    }
    second = {
        f"MedCoDi-M Tables 2 and 6: {arm}": _flags((*SHORT, _only("coherence"), *changes), ("recipe=medcodi_m",))
        for arm, changes in TABLE_2.items()
    }
    return [*arm_rows(seventh, partial(table_columns, COLUMNS_7)), *arm_rows(second, _views)]


def _only(*measures: str) -> str:
    return f"training.measure.only={list(measures)}".replace("'", '"')


def _flags(changes: tuple[str, ...], recipe: tuple[str, ...]) -> list[str]:
    """Flags of an arm, on the flow of the main job: its autoencoders are those of the reused run."""
    name = recipe[0].removeprefix("recipe=")
    flow = FLOW if name == "medm2g" else "text-xray"
    return ["--recipe", name, "--flow", flow, *(f"--set={change}" for change in (*recipe[1:], *changes))]


def _views(run: Path) -> dict[str, float]:
    """Frechet distances by combination of prompts, and the cosines."""
    test_set = test_set_of(run)
    distances = {}
    for name, (prompts, view) in COMBINATIONS.items():
        indices = test_set.comparable_indices(*prompts, view)
        images = joined(test_set.generated([view], indices, prompts=prompts, couple=False, title=name)[view])
        real = test_set.features(view, test_set.data(view, indices))
        distances[f"frechet_{name}"] = frechet_distance(real, test_set.features(view, images))
    return {**distances, **table_columns(COSINES, run)}
