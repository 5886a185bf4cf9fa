"""What every DICOM instance that MedWeave writes has in common: a made-up patient, the study, and that it is synthetic.

Nothing here comes from a source file: names, identifiers and dates follow from the provenance alone, so that the same
seed gives the same bytes. PS3.5 B.2: a UUID as a decimal number below the root ``2.25`` is a valid identifier.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import UserError
from core.io.dicom.codes import PROCESSING
from core.io.dicom.mark import write_mark
from core.io.provenance import SYNTHETIC, Mark
from core.types import Provenance, Sample

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


ROOT = "2.25"
_SHORT = 12  # hexadecimal digits of a patient's identifier


def derived_uid(*words: str | int) -> str:
    """Return the UID of these words in this order, at most 44 characters: 122 bits of their SHA-256, as a UUID."""
    digest = hashlib.sha256(json.dumps(words).encode()).digest()[:16]
    # Version 8 is that of UUIDs with bits of one's own (RFC 9562, 5.8).
    bits = int.from_bytes(digest, "big") & ~(0xF << 76) & ~(0x3 << 62) | (8 << 76) | (2 << 62)
    return f"{ROOT}.{uuid.UUID(int=bits).int}"


def study_uid(provenance: Provenance) -> str:
    """Return the Study Instance UID, the same for all modalities of an order and index."""
    return derived_uid("study", _shared_provenance(provenance))


def frame_of_reference_uid(provenance: Provenance) -> str:
    """Return the UID of the coordinates that all slices and volumes of a study share. Projections have none."""
    return derived_uid("frame of reference", _shared_provenance(provenance))


def series_uid(sample: Sample, provenance: Provenance, role: str = "series") -> str:
    """Return the UID of a sample: modality, values and geometry count too, so that two images never share one."""
    return derived_uid(role, sample.modality, _digest(sample), _shared_provenance(provenance))


def instance_uid(series: str, number: int) -> str:
    """Return the SOP Instance UID of the ``number``-th instance of a series."""
    return derived_uid("instance", series, number)


def patient_id(provenance: Provenance) -> str:
    """Return ``MW-`` and 12 hexadecimal digits: a made-up patient per study."""
    return f"MW-{hashlib.sha256(f'patient {_shared_provenance(provenance)}'.encode()).hexdigest()[:_SHORT]}"


def _shared_provenance(provenance: Provenance) -> str:
    """Return what the files of a study share. The name of an order stands for the prompts, which differ by file."""
    file_only = {"prompts"} if "order" in provenance.versions else set()
    return json.dumps(provenance.model_dump(mode="json", exclude=file_only), sort_keys=True)


def _digest(sample: Sample) -> str:
    digest = hashlib.sha256()
    if isinstance(sample.data, str):
        digest.update(sample.data.encode(errors="replace"))
    else:
        digest.update(np.ascontiguousarray(sample.data, dtype="<f4").tobytes())
    if sample.geometry is not None:
        digest.update(np.ascontiguousarray(sample.geometry.affine, dtype="<f8").tobytes())
    return digest.hexdigest()


SUFFIX = ".dcm"
MAKER = "MedWeave"
PATIENT_NAME = "SYNTHETIC^MEDWEAVE"
_DATE = "20000101"  # of every study: a file does not depend on when it was made
_DAY_S = 86_400
_LONGEST = 64  # characters of a description (VR LO)


@dataclass(frozen=True, kw_only=True)
class SeriesAttributes:
    """What the instances of a sample share. ``sop_class`` is its UID, ``modality`` the word of DICOM (DX, CT)."""

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


def new_instance(series: SeriesAttributes, number: int = 1) -> Dataset:
    """Return an instance with Patient, General Study, Series and Equipment, and SOP Common (PS3.3 C.7, C.12)."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = series.sop_class
    dataset.SOPInstanceUID = instance_uid(series.uid, number)
    dataset.InstanceNumber = number
    _add_study(dataset, series.provenance)
    dataset.Modality = series.modality
    dataset.SeriesInstanceUID = series.uid
    dataset.SeriesNumber = series.number
    dataset.Laterality = ""  # of a paired body part: nobody knows which part this is
    dataset.SeriesDescription = f"SYNTHETIC {series.sample.modality}"[:_LONGEST]
    mark_synthetic(dataset, series.mark)
    return dataset


def mark_synthetic(dataset: Dataset, mark: Mark) -> None:
    """State that an instance is synthetic wherever PS3.3 allows, and write the `Mark` into a private block."""
    dataset.SyntheticData = "YES"  # (0008,001C), PS3.3 C.12.1
    dataset.Manufacturer = MAKER
    dataset.ManufacturerModelName = _word(mark.provenance.model)
    dataset.SoftwareVersions = _version(mark.provenance)
    dataset.ContributingEquipmentSequence = _equipment(mark.provenance)
    write_mark(dataset, mark)


def add_derived_image(dataset: Dataset, mark: Mark, *image_type: str) -> None:
    """Add the module General Image: values 1 and 2 of Image Type say that no detector made this image."""
    provenance = mark.provenance
    dataset.ImageType = ["DERIVED", "SECONDARY", *image_type]
    how = f"model {provenance.model}, recipe {provenance.recipe}, seed {provenance.seed}, index {provenance.index}"
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
    """Return the path; `UserError` where its name does not end with the writer's suffix."""
    path = Path(path)
    if path.name in ("", ".."):
        raise UserError(f"{path}: is no name to write to; name a file or folder in it")
    if path.suffix != suffix:
        raise UserError(f"{path}: this writer makes {suffix or 'a folder, whose name has no suffix'}; change the name")
    return path


def printable(text: str) -> str:
    """Return the text with U+FFFD for the control characters that DICOM forbids; ends of lines stay."""
    forbidden = (
        character for character in set(text) if unicodedata.category(character) == "Cc" and character not in "\t\r\n"
    )
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
