"""What the labels of a map stand for: coded segments, and the terms of the chest (SNOMED CT; PS3.16 CID 7150, 7151)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field

from core.errors import unknown
from core.io.codes import Code

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
        raise unknown(what, name, codes)
    value, meaning = codes[name]
    return Segment(name=name, kind=Code(value=value, meaning=meaning), category=category)
