"""MIMIC-CXR: chest X-rays of both views with their reports (MedCoDi-M 3.1, CoDi_XR II, MedM2G 4).

Layout, https://physionet.org/content/mimic-cxr/ and https://physionet.org/content/mimic-cxr-jpg/ ::

    mimic-cxr-2.0.0-metadata.csv    dicom_id, subject_id, study_id, ViewPosition, ...    of MIMIC-CXR-JPG, may be .gz
    mimic-cxr-2.0.0-split.csv       dicom_id, study_id, subject_id, split                of MIMIC-CXR-JPG
    mimic-cxr-2.0.0-chexpert.csv    subject_id, study_id, 14 findings                    of MIMIC-CXR-JPG, optional
    files/p10/p10000032/s50414267/<dicom_id>.dcm or .jpg
    files/p10/p10000032/s50414267.txt                                                    mimic-cxr-reports.zip

The DICOM tree has no tables of its own: put those of MIMIC-CXR-JPG beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from core.api import DatasetAdapter, Record, UserError
from plugins.public_datasets.csv_tables import Row, require_table, table
from plugins.public_datasets.file_listing import names_in
from plugins.public_datasets.mimic_cxr.tables import VIEWS, Findings, images, split_of_patients
from plugins.public_datasets.skipped_files import Omissions

METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
CHEXPERT = "mimic-cxr-2.0.0-chexpert.csv"
SUFFIXES = (".dcm", ".jpg", ".png")  # of two exports of one image the first is taken
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z /,()&-]+):", re.MULTILINE)
_ORDER = tuple(VIEWS)


class _Tree:
    """The files that are there. The table goes patient by patient, so a patient's folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root, self.omitted, self.num_images = root, Omissions(), 0
        self._folder, self._names = Path(), set[str]()

    def report(self, patient: str, study: str) -> Path | None:
        """The study's report."""
        folder, name = self._enter(patient), f"{study}.txt"
        if name in self._names:
            return folder / name
        self.omitted.add("reports that are not there", folder / name)
        return None

    def images(self, patient: str, study: str, group: Iterable[Row]) -> dict[str, tuple[Path, ...]]:
        """The study's images by modality: PA before AP, LATERAL before LL, else in the order of the table."""
        place = self._enter(patient) / study
        present = names_in(place) if study in self._names else set()
        found: dict[str, tuple[Path, ...]] = {}
        for row in sorted(group, key=lambda row: _ORDER.index(row["ViewPosition"])):
            names = (f"{row['dicom_id']}{suffix}" for suffix in SUFFIXES)
            name = next((name for name in names if name in present), None)
            if name is None:
                self.omitted.add(f"images listed in {METADATA} that are not there", place / row["dicom_id"])
                continue
            view = VIEWS[row["ViewPosition"]]
            found[view] = (*found.get(view, ()), place / name)
            self.num_images += 1
        return found

    def _enter(self, patient: str) -> Path:
        folder = self.root / "files" / patient[:3] / patient
        if folder != self._folder:
            self._folder, self._names = folder, names_in(folder)
        return folder


def scan(root: Path, *, impressions: bool = False) -> Iterator[Record]:
    """A record per study, its report as a file; or the section IMPRESSION of it as text (MedCoDi-M 3.1, CoDi_XR II).

    `UserError` names the table and the line. What is listed and not there is counted in one warning.
    """
    tree = _Tree(Path(root))
    metadata = _table(tree.root, METADATA)
    splits, findings = split_of_patients(_table(tree.root, SPLIT)), Findings(table(tree.root, CHEXPERT))
    for (patient, study), group in groupby(images(metadata, tree.omitted), key=lambda pair: pair[0]):
        files = tree.images(patient, study, [row for _, row in group if row["ViewPosition"] in VIEWS])
        text, report = "", tree.report(patient, study)
        if report and impressions:
            text = _impression(report, tree.omitted)
        elif report:
            files["text"] = (report,)
        if patient not in splits:
            raise UserError(f"{tree.root / SPLIT}: patient {patient} of {METADATA} has no split; download it again")
        if files or text:
            texts = {"text": text} if text else {}
            labels = findings.of(study)
            yield Record(patient=patient, study=study, files=files, texts=texts, split=splits[patient], labels=labels)
    if not tree.num_images:
        raise UserError(
            f"{tree.root}: holds none of the images of {METADATA}; expected"
            " files/p10/p10000032/s50414267/<dicom_id>.dcm or .jpg; point root at the folder that holds files"
        )
    tree.omitted.tell(tree.root)


def impression_of(report: str) -> str:
    """The last section of a report under the heading IMPRESSION, in one line; empty where there is none."""
    headings = list(_HEADING.finditer(report))
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    sections = [
        report[heading.end() : end]
        for heading, end in zip(headings, ends, strict=False)
        if heading[1].strip() == "IMPRESSION"
    ]
    return " ".join(sections[-1].split()) if sections else ""


def _impression(report: Path, omitted: Omissions) -> str:
    try:
        text = impression_of(report.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{report}: cannot be read as UTF-8: {error}; download it again") from error
    if not text:
        omitted.add("reports without an impression", report)
    return text


def _table(root: Path, name: str) -> Path:
    todo = "it comes with MIMIC-CXR-JPG, expected beside the folder files; point root at the folder that holds both"
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
