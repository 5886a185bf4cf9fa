"""Coded concepts (PS3.3 section 8): a value, the scheme that defines it, and its meaning in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
        """The item of a code sequence."""
        from pydicom.dataset import Dataset

        item = Dataset()
        item.CodeValue = self.value
        item.CodingSchemeDesignator = self.scheme
        item.CodeMeaning = self.meaning
        return item

    def sequence(self) -> Sequence:
        """A sequence of this one code."""
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
ENGLISH = Code(value="eng", meaning="English", scheme="RFC5646")
