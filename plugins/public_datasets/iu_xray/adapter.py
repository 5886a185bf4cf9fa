"""IU X-ray, the Indiana University chest X-rays of Open-i: both views with their reports (MedM2G 4, Table 1).

The collection is read in three layouts. The first that is there is taken:

``annotation.json`` of R2Gen, https://github.com/cuhksz-nlp/R2Gen ::

    annotation.json             {"train" | "val" | "test": [{"id", "report", "image_path": [two paths]}]}
    images/CXR2384_IM-0942/0.png

Tables of https://www.kaggle.com/datasets/raddar/chest-xrays-indiana-university ::

    indiana_reports.csv         uid, MeSH, Problems, image, indication, comparison, findings, impression
    indiana_projections.csv     uid, filename, projection ("Frontal" or "Lateral")
    images/images_normalized/1_IM-0001-4001.dcm.png

XML of https://openi.nlm.nih.gov/faq, with ``indiana_projections.csv`` for the views, or DICOM that states them ::

    ecgen-radiology/1.xml       AbstractText by Label, parentImage by id, MeSH
    NLMCXR_png/CXR1_1_IM-0001-4001.png      or NLMCXR_dcm/1/1_IM-0001-4001.dcm

The source states no patients: each report counts as a patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.iu_xray.kaggle import REPORTS as KAGGLE_REPORTS
from plugins.public_datasets.iu_xray.kaggle import scan as scan_kaggle
from plugins.public_datasets.iu_xray.openi import REPORTS as OPENI_REPORTS
from plugins.public_datasets.iu_xray.openi import scan as scan_openi
from plugins.public_datasets.iu_xray.r2gen import TABLE as R2GEN_TABLE
from plugins.public_datasets.iu_xray.r2gen import scan as scan_r2gen

_LAYOUTS = {R2GEN_TABLE: scan_r2gen, KAGGLE_REPORTS: scan_kaggle, OPENI_REPORTS: scan_openi}


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per report, split as R2Gen did where its annotation is there. `UserError` names file and entry."""
    root = Path(root)
    for name, scan_layout in _LAYOUTS.items():
        if (root / name).exists():
            return scan_layout(root)
    raise UserError(f"{root}: has none of {', '.join(_LAYOUTS)}; point root at the folder that holds one of them")


IU_XRAY = DatasetAdapter(
    name="iu_xray",
    title="IU X-ray (Open-i)",
    modalities=("text", "xray_frontal", "xray_lateral"),
    licence="CC BY-NC-ND 4.0",
    citation=(
        "Demner-Fushman et al., Preparing a collection of radiology examinations for distribution and retrieval,"
        " JAMIA 23(2):304-310 (2016); https://openi.nlm.nih.gov/faq"
    ),
    scan=scan,
)
