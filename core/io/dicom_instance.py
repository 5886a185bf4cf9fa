"""What every DICOM instance that MedWeave writes has in common: a made-up patient, the study, and that it is synthetic.

Nothing here comes from a source file: names, identifiers and dates follow from the provenance alone.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.io.codes import PROCESSING
from core.io.dicom_mark import keep_mark
from core.io.provenance import SYNTHETIC, Mark
from core.io.uids import derived_uid, instance_uid, patient_id, series_uid, study_uid
from core.types import Provenance, Sample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SUFFIX = ".dcm"
MAKER = "MedWeave"
PATIENT_NAME = "SYNTHETIC^MEDWEAVE"
_DATE = "20000101"  # of every study: a file does not depend on when it was made
_DAY_S = 86_400
_LONGEST = 64  # characters of a description (VR LO)


@dataclass(frozen=True, kw_only=True)
class SeriesPlace:
    """Where the instances of one sample belong. ``sop_class`` by its UID, ``modality`` as DICOM says it (DX, CT)."""

    sample: Sample
    provenance: Provenance
    mark: Mark
    sop_class: str
    modality: str
    number: int

    @cached_property
    def uid(self) -> str:
        """Series Instance UID."""
        return series_uid(self.sample, self.provenance)


def new_instance(place: SeriesPlace, number: int = 1) -> Dataset:
    """The modules Patient, General Study, General Series, General Equipment and SOP Common (PS3.3 C.7, C.12)."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = place.sop_class
    dataset.SOPInstanceUID = instance_uid(place.uid, number)
    dataset.InstanceNumber = number
    _add_study(dataset, place.provenance)
    dataset.Modality = place.modality
    dataset.SeriesInstanceUID = place.uid
    dataset.SeriesNumber = place.number
    dataset.Laterality = ""  # of a paired body part: nobody knows which part this is
    dataset.SeriesDescription = f"SYNTHETIC {place.sample.modality}"[:_LONGEST]
    mark_synthetic(dataset, place.mark)
    return dataset


def mark_synthetic(dataset: Dataset, mark: Mark) -> None:
    """Say so in every place that PS3.3 has for it, and keep the `Mark` in a private block."""
    dataset.SyntheticData = "YES"  # (0008,001C), PS3.3 C.12.1
    dataset.Manufacturer = MAKER
    dataset.ManufacturerModelName = _word(mark.provenance.model)
    dataset.SoftwareVersions = _version(mark.provenance)
    dataset.ContributingEquipmentSequence = _equipment(mark.provenance)
    keep_mark(dataset, mark)


def add_derived_image(dataset: Dataset, mark: Mark, *image_type: str) -> None:
    """The module General Image: values 1 and 2 of Image Type say that no detector made this image."""
    told = mark.provenance
    dataset.ImageType = ["DERIVED", "SECONDARY", *image_type]
    how = f"model {told.model}, recipe {told.recipe}, seed {told.seed}, index {told.index}"
    dataset.DerivationDescription = printable(f"{SYNTHETIC}; {how}")[:1024]
    dataset.ImageComments = SYNTHETIC
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"


def save_instance(dataset: Dataset, path: Path) -> None:
    """Write an instance as a DICOM file (PS3.10), Explicit VR Little Endian, the same bytes every time."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(derived_uid("implementation", MAKER))
    dataset.file_meta.ImplementationVersionName = MAKER.upper()
    dataset.preamble = bytes(128)
    dcmwrite(path, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)


def require_suffix(path: Path, suffix: str = SUFFIX) -> Path:
    """The path; `UserError` where its name ends otherwise than the writer's suffix."""
    path = Path(path)
    if path.name in ("", ".."):
        raise UserError(f"{path}: is no name to write to; name a file or folder in it")
    if path.suffix != suffix:
        raise UserError(f"{path}: this writer makes {suffix or 'a folder, whose name has no suffix'}; change the name")
    return path


def printable(text: str) -> str:
    """The text without the control characters that DICOM forbids, each replaced by U+FFFD; ends of lines stay."""
    forbidden = (one for one in set(text) if unicodedata.category(one) == "Cc" and one not in "\t\r\n")
    return text.translate(dict.fromkeys(map(ord, forbidden), "\N{REPLACEMENT CHARACTER}"))


def _word(text: str) -> str:
    """One value of at most 64 characters (VR LO): a backslash would make two of it."""
    return " ".join(printable(text).replace("\\", "/").split())[:_LONGEST] or "unknown"


def _add_study(dataset: Dataset, provenance: Provenance) -> None:
    """One study and one patient per order and index, whatever the modality."""
    patient = patient_id(provenance)
    dataset.PatientName = PATIENT_NAME
    dataset.PatientID = patient
    dataset.PatientBirthDate = dataset.PatientSex = ""
    # A receiver asks whether a name may still be in there: there never was one.
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = SYNTHETIC
    dataset.StudyInstanceUID = study_uid(provenance)
    dataset.StudyID = patient.removeprefix("MW-")
    dataset.StudyDescription = SYNTHETIC
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = _DATE
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = _time(patient)


def _time(patient: str) -> str:
    seconds = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") % _DAY_S
    return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"


def _version(provenance: Provenance) -> str:
    return _word(provenance.versions.get("medweave", ""))


def _equipment(provenance: Provenance) -> Any:
    """Contributing Equipment (PS3.3 C.12.1): MedWeave, as processing equipment."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = PROCESSING.sequence()
    item.Manufacturer = MAKER
    item.ManufacturerModelName = _word(provenance.model)
    item.SoftwareVersions = _version(provenance)
    item.ContributionDescription = SYNTHETIC
    return Sequence([item])
