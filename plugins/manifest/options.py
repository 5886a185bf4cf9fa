"""What the columns of a table mean, where they are not MedWeave's own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator

from core.api import PartConfig, UserError

Row = Mapping[str, str]
_PLACE = "{labels}"


class ManifestOptions(PartConfig):
    """``[datasets.NAME.options]``.

    ``columns``: those that tell the modality, joined by ``/``. ``modalities``: such a word to the modality it means; an
    empty one leaves the rows out, a word that is not listed stays as it is. ``caption``: the text of a study without a
    report, ``{labels}`` in it its labels by their ``names`` (others as they are), or such a text for each modality;
    ``unlabelled``: where it has none.
    ``counts``: a label ``RBC:15`` is ``RBC``, told with its number. ``uncoded``: labels that say only that a study has
    none.
    """

    columns: tuple[str, ...] = Field(default=("modality",), min_length=1)
    modalities: Mapping[str, str] = Field(default_factory=dict)
    caption: str | Mapping[str, str] = ""
    unlabelled: str = ""
    names: Mapping[str, str] = Field(default_factory=dict)
    counts: bool = False
    uncoded: tuple[str, ...] = ()

    @field_validator("caption")
    @classmethod
    def _names_the_labels(cls, caption: str | Mapping[str, str]) -> str | Mapping[str, str]:
        texts = [caption] if isinstance(caption, str) else caption.values()
        if any(text and _PLACE not in text for text in texts):
            raise ValueError(f"a caption says where its labels go: {_PLACE}")
        return caption

    def modality_of(self, row: Row) -> str:
        """The modality of a row, empty where it is left out."""
        word = "/".join(row.get(column, "").strip() for column in self.columns)
        return self.modalities.get(word, word)

    def labels_of(self, rows: list[Row]) -> dict[str, str]:
        """The labels that are present, and how many where that is counted; in the order of the table."""
        found: dict[str, str] = {}
        for row in rows:
            for label in filter(None, (one.strip() for one in row.get("labels", "").split("|"))):
                name, _, number = label.rpartition(":") if self.counts and ":" in label else (label, "", "")
                if number != "0" and name not in self.uncoded:
                    found[name] = number
        return found

    def text_of(self, labels: Mapping[str, str], modalities: Iterable[str]) -> str:
        """The caption of a study without a report; of several modalities the first that has one decides."""
        told = [self.names.get(name, name) + (f" ({number})" if number else "") for name, number in labels.items()]
        if not told:
            return self.unlabelled
        *first, last = told
        texts = [self.caption] if isinstance(self.caption, str) else map(self.caption.get, modalities)
        caption = next(filter(None, texts), "")
        return caption.replace(_PLACE, f"{', '.join(first)} and {last}" if first else last)


def read_options(settings: Mapping[str, Any]) -> ManifestOptions:
    """The options; `UserError` that names what is not known or wrong."""
    try:
        return ManifestOptions.model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        known = ", ".join(ManifestOptions.model_fields)
        raise UserError(f"options.{where}: {fault['msg'].removeprefix('Value error, ')} (known: {known})") from error
