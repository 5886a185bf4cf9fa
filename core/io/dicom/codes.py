"""Coded concepts (PS3.3 section 8): a value, the scheme that defines it, and its meaning in words.

What the labels of a map stand for: coded segments, and the terms of the chest (SNOMED CT; PS3.16 CID 7150, 7151).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.errors import unknown_name

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence


class Code(BaseModel):
    """``Code(value="39607008", meaning="Lung")``; ``scheme`` SCT is SNOMED CT, LN LOINC, DCM PS3.16 itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]
    scheme: Annotated[str, Field(min_length=1, max_length=16)] = "SCT"

    def dataset(self) -> Dataset:
        """Return the item of a code sequence."""
        from pydicom.dataset import Dataset

        item = Dataset()
        item.CodeValue = self.value
        item.CodingSchemeDesignator = self.scheme
        item.CodeMeaning = self.meaning
        return item

    def sequence(self) -> Sequence:
        """Return a sequence of this code alone."""
        from pydicom.sequence import Sequence

        return Sequence([self.dataset()])


View = Literal["PA", "AP", "LL", "RL"]
# PS3.16 CID 4010.
VIEWS: dict[View, Code] = {
    "PA": Code(value="272479007", meaning="postero-anterior"),
    "AP": Code(value="399348003", meaning="antero-posterior"),
    "LL": Code(value="399173006", meaning="left lateral"),
    "RL": Code(value="399198007", meaning="right lateral"),
}
CHEST = Code(value="816094009", meaning="Chest")
PROCESSING = Code(value="109102", meaning="Processing Equipment", scheme="DCM")  # CID 7005


_STRUCTURE = Code(value="123037004", meaning="Anatomical Structure")
_ABNORMAL = Code(value="49755003", meaning="Morphologically Abnormal Structure")
_ORGANS = {
    "body": ("38266002", "Entire body as a whole"),
    "lung": ("39607008", "Lung"),
    "heart": ("80891009", "Heart"),
    "vessels": ("59820001", "Blood vessel"),
    "airway": ("89187006", "Airway"),
    "mediastinum": ("72410000", "Mediastinum"),
    "bone": ("272673000", "Bone"),
    "liver": ("10200004", "Liver"),
    "spleen": ("78961009", "Spleen"),
    "stomach": ("69695003", "Stomach"),
    "abdomen": ("818981001", "Abdomen"),
}
_FINDINGS = {
    "cardiomegaly": ("8186001", "Cardiomegaly"),
    "pleural_effusion": ("60046008", "Pleural effusion"),
    "pneumothorax": ("36118008", "Pneumothorax"),
    "consolidation": ("95436008", "Lung consolidation"),
    "lung_lesion": ("52988006", "Lesion"),
    "edema": ("19242006", "Pulmonary edema"),
    "atelectasis": ("46621007", "Atelectasis"),
}

# The order is part of the format: label k of a label map is entry k - 1, in the files of the phantom and in the maps
# that the mask plugin trains on.
CHEST_ORGANS = tuple(_ORGANS)
CHEST_FINDINGS = tuple(_FINDINGS)


class Segment(BaseModel):
    """What a label stands for. ``category`` and ``kind`` as in PS3.16 CID 7150 and 7151."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    kind: Code
    category: Code = _STRUCTURE


def organ_segments(names: Iterable[str]) -> tuple[Segment, ...]:
    """Anatomical structures by name, such as ``lung``; `UserError` names those that have a code here."""
    return tuple(_segment(name, "organ with a code", _ORGANS, _STRUCTURE) for name in names)


def finding_segments(names: Iterable[str]) -> tuple[Segment, ...]:
    """Abnormal structures by name, such as ``pneumothorax``; `UserError` names those that have a code here."""
    return tuple(_segment(name, "finding with a code", _FINDINGS, _ABNORMAL) for name in names)


def _segment(name: str, what: str, codes: Mapping[str, tuple[str, str]], category: Code) -> Segment:
    if name not in codes:
        raise unknown_name(what, name, codes)
    value, meaning = codes[name]
    return Segment(name=name, kind=Code(value=value, meaning=meaning), category=category)
