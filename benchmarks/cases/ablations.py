"""What each choice of `medweave` is worth: short runs from shared autoencoders and alignment, three seeds an arm.

    python benchmarks/run.py ablations

Needs the finished run of `main_job`, whose autoencoders and alignment every arm reuses. Two arms train side by side, a
process each. Every arm has the same steps, where the arm does not say otherwise; figures are of test studies, mean and
range over the seeds. Finished arms stay in ``runs/ablations``, so that an interrupted case goes on there.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.arms import arm_rows, table_columns
from benchmarks.cases.main_job import FLOW

COMMON = (
    *("training.diffuse.steps=40", "training.diffuse.steps_tokens=150", "training.joint.steps=300"),
    'training.measure.only=["outline", "anatomy", "agreement", "translation"]',
)
ARMS: dict[str, tuple[str, ...]] = {
    "medweave": (),
    "target: noise": ("diffuse.objective=epsilon",),
    "target: clean latent": ("diffuse.objective=clean",),
    "context by attention": ("guide.aligned=none", "guide.summary=false", "guide.adaptation=true"),
    "context aligned and by attention": ("guide.aligned=beside", "guide.adaptation=true"),
    "aligned, no summary": ("guide.summary=false",),
    "trained: contexts only": ("guide.trains=sublayers", "training.diffuse.steps=240", "training.joint.steps=150"),
    "pairs in turn": ("guide.studies=pairs", "training.joint.steps=50"),  # of each of six pairs
    "one level for a study": ("guide.levels=equal",),
    "no guidance by partners": ("sampler.context_scale=1.0",),
    "medm2g's guidance": (
        *("guide.aligned=none", "guide.summary=false", "guide.adaptation=true", "guide.contrast=true"),
        *(
            "guide.studies=pairs",
            "guide.trains=sublayers",
            "diffuse.objective=epsilon",
            "diffuse.schedule=scaled_linear",
        ),
        *("training.diffuse.steps=240", "training.joint.steps=25", "sampler.context_scale=1.0"),
    ),
}
# Column and the beginning of the rows whose mean it is.
COLUMNS = {
    "dice": ("ct and mri: outline Dice, generated, no prompt", "ct and mri: outline Dice, generated, prompted"),
    "anatomy_plane": ("ct and mri: shared anatomy, share of real, generated",),
    "anatomy_views": ("xray_frontal and xray_lateral: shared anatomy, share of real, generated",),
    "mri_from_ct_db": ("mri from a given ct: PSNR dB",),
    "ct_from_mri_db": ("ct from a given mri: PSNR dB",),
    "agreement_frontal": ("xray_frontal: agreement with text, AUROC relative",),
    "agreement_ct": ("ct: agreement with text, AUROC relative",),
}


def measure() -> list[dict[str, Any]]:
    """A row per arm."""
    arms = {
        arm: ["--flow", FLOW, *(f"--set={change}" for change in (*COMMON, *changes))] for arm, changes in ARMS.items()
    }
    return arm_rows(arms, partial(table_columns, COLUMNS))
