"""MIMIC-CXR: chest X-rays of both views with their reports (MedCoDi-M 3.1, CoDi_XR II, MedM2G 4).

Layout, https://physionet.org/content/mimic-cxr/ and https://physionet.org/content/mimic-cxr-jpg/ ::

    mimic-cxr-2.0.0-metadata.csv    dicom_id, subject_id, study_id, ViewPosition, ...    of MIMIC-CXR-JPG, may be .gz
    mimic-cxr-2.0.0-split.csv       dicom_id, study_id, subject_id, split                of MIMIC-CXR-JPG
    mimic-cxr-2.0.0-chexpert.csv    subject_id, study_id, 14 findings                    of MIMIC-CXR-JPG, optional
    files/p10/p10000032/s50414267/<dicom_id>.dcm or .jpg
    files/p10/p10000032/s50414267.txt                                                    mimic-cxr-reports.zip

The DICOM tree comes without tables: put those of MIMIC-CXR-JPG into the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.csv_tables import Row, find_table, require_table
from plugins.public_datasets.file_listing import list_names
from plugins.public_datasets.mimic_cxr.tables import VIEWS, ChexpertLabels, read_images, read_splits
from plugins.public_datasets.skipped_files import SkippedFiles

METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
CHEXPERT = "mimic-cxr-2.0.0-chexpert.csv"
SUFFIXES = (".dcm", ".jpg", ".png")  # of two exports of one image the first is taken
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z /,()&-]+):", re.MULTILINE)
_ORDER = tuple(VIEWS)


class _FileTree:
    """Look up the files that are there. The table goes patient by patient, so a patient's folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root, self.skipped, self.num_images = root, SkippedFiles(), 0
        self._folder, self._names = Path(), set[str]()

    def report(self, patient: str, study: str) -> Path | None:
        """Return the study's report; ``None`` where it is missing, which is counted."""
        folder, name = self._enter(patient), f"{study}.txt"
        if name in self._names:
            return folder / name
        self.skipped.add("reports that are not there", folder / name)
        return None

    def images(self, patient: str, study: str, group: Iterable[Row]) -> dict[str, tuple[Path, ...]]:
        """Return the study's images by modality: PA before AP, LATERAL before LL, else in the order of the table."""
        folder = self._enter(patient) / study
        present = list_names(folder) if study in self._names else set()
        files: dict[str, tuple[Path, ...]] = {}
        for row in sorted(group, key=lambda row: _ORDER.index(row["ViewPosition"])):
            names = (f"{row['dicom_id']}{suffix}" for suffix in SUFFIXES)
            name = next((name for name in names if name in present), None)
            if name is None:
                self.skipped.add(f"images listed in {METADATA} that are not there", folder / row["dicom_id"])
                continue
            view = VIEWS[row["ViewPosition"]]
            files[view] = (*files.get(view, ()), folder / name)
            self.num_images += 1
        return files

    def _enter(self, patient: str) -> Path:
        folder = self.root / "files" / patient[:3] / patient
        if folder != self._folder:
            self._folder, self._names = folder, list_names(folder)
        return folder


def scan(root: Path, *, impressions: bool = False) -> Iterator[Record]:
    """Yield a record per study, with its report as a file, or with the section IMPRESSION as text.

    MedCoDi-M 3.1 and CoDi_XR II train on impressions. Files that are listed and missing are counted in one warning.
    `UserError` names the table and the line.
    """
    tree = _FileTree(Path(root))
    metadata = _require_table(tree.root, METADATA)
    splits, findings = read_splits(_require_table(tree.root, SPLIT)), ChexpertLabels(find_table(tree.root, CHEXPERT))
    for (patient, study), group in groupby(read_images(metadata, tree.skipped), key=lambda pair: pair[0]):
        files = tree.images(patient, study, [row for _, row in group if row["ViewPosition"] in VIEWS])
        text, report = "", tree.report(patient, study)
        if report and impressions:
            text = _impression(report, tree.skipped)
        elif report:
            files["text"] = (report,)
        if patient not in splits:
            raise UserError(f"{tree.root / SPLIT}: patient {patient} of {METADATA} has no split; download it again")
        if files or text:
            texts = {"text": text} if text else {}
            labels = findings.labels_of(study)
            yield Record(patient=patient, study=study, files=files, texts=texts, split=splits[patient], labels=labels)
    if not tree.num_images:
        raise UserError(
            f"{tree.root}: holds none of the images of {METADATA}; expected"
            " files/p10/p10000032/s50414267/<dicom_id>.dcm or .jpg; point root at the folder that holds files"
        )
    tree.skipped.warn(tree.root)


def impression_of(report: str) -> str:
    """Return the last section of a report under the heading IMPRESSION, in one line; empty where there is none."""
    headings = list(_HEADING.finditer(report))
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    sections = [
        report[heading.end() : end]
        for heading, end in zip(headings, ends, strict=False)
        if heading[1].strip() == "IMPRESSION"
    ]
    return " ".join(sections[-1].split()) if sections else ""


def _impression(report: Path, skipped: SkippedFiles) -> str:
    try:
        text = impression_of(report.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{report}: cannot be read as UTF-8: {error}; download it again") from error
    if not text:
        skipped.add("reports without an impression", report)
    return text


def _require_table(root: Path, name: str) -> Path:
    todo = "it comes with MIMIC-CXR-JPG, expected next to the folder files; point root at the folder that holds both"
    return require_table(root, todo, name)


def _adapter(name: str, title: str, scan: Callable[[Path], Iterator[Record]]) -> DatasetAdapter:
    return DatasetAdapter(
        name=name,
        title=title,
        modalities=("text", "xray_frontal", "xray_lateral"),
        licence="PhysioNet Credentialed Health Data License 1.5.0: credentialed access, no sharing",
        citation=(
            "Johnson et al., MIMIC-CXR, Scientific Data 6:317 (2019), https://physionet.org/content/mimic-cxr/;"
            " MIMIC-CXR-JPG, https://physionet.org/content/mimic-cxr-jpg/"
        ),
        scan=scan,
    )


MIMIC_CXR = _adapter("mimic_cxr", "MIMIC-CXR (DICOM or JPG), whole reports", scan)
MIMIC_CXR_IMPRESSION = _adapter(
    "mimic_cxr_impression", "MIMIC-CXR (DICOM or JPG), impressions", partial(scan, impressions=True)
)
