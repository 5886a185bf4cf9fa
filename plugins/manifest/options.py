"""Map the columns and words of a table to MedWeave's, where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator

from core.api import PartConfig, UserError

Row = Mapping[str, str]
_PLACEHOLDER = "{labels}"


class ManifestOptions(PartConfig):
    """Hold the settings of ``[datasets.NAME.options]``.

    ``columns`` are those that state the modality, joined by ``/``. ``modalities`` maps such a word to a modality; an
    empty one leaves the rows out, and a word that is not listed stays as it is. ``caption`` is the text of a study
    without a report, or such a text for each modality. In it ``{labels}`` stands for the labels by their ``names``
    (others as they are), and ``unlabelled`` is the text where there are none. With ``counts`` a label ``RBC:15`` is
    ``RBC``, written with its number. ``uncoded`` are labels that say only that a study has none. ``outside`` allows
    files that are not below the folder, and links out of it.
    """

    columns: tuple[str, ...] = Field(default=("modality",), min_length=1)
    modalities: Mapping[str, str] = Field(default_factory=dict)
    caption: str | Mapping[str, str] = ""
    unlabelled: str = ""
    names: Mapping[str, str] = Field(default_factory=dict)
    counts: bool = False
    uncoded: tuple[str, ...] = ()
    outside: bool = False

    @field_validator("caption")
    @classmethod
    def _require_placeholder(cls, caption: str | Mapping[str, str]) -> str | Mapping[str, str]:
        texts = [caption] if isinstance(caption, str) else caption.values()
        if any(text and _PLACEHOLDER not in text for text in texts):
            raise ValueError(f"a caption says where its labels go: {_PLACEHOLDER}")
        return caption

    def modality_of(self, row: Row) -> str:
        """Return the modality of a row, empty where the row is left out."""
        word = "/".join(row.get(column, "").strip() for column in self.columns)
        return self.modalities.get(word, word)

    def labels_of(self, rows: list[Row]) -> dict[str, str]:
        """Return the labels that are present, and their number where that is counted; in the order of the table."""
        labels: dict[str, str] = {}
        for row in rows:
            for label in filter(None, (cell.strip() for cell in row.get("labels", "").split("|"))):
                name, _, number = label.rpartition(":") if self.counts and ":" in label else (label, "", "")
                if number != "0" and name not in self.uncoded:
                    labels[name] = number
        return labels

    def text_of(self, labels: Mapping[str, str], modalities: Iterable[str]) -> str:
        """Return the caption of a study without a report; the first modality that has a caption decides."""
        phrases = [self.names.get(name, name) + (f" ({number})" if number else "") for name, number in labels.items()]
        if not phrases:
            return self.unlabelled
        *first, last = phrases
        texts = [self.caption] if isinstance(self.caption, str) else map(self.caption.get, modalities)
        caption = next(filter(None, texts), "")
        return caption.replace(_PLACEHOLDER, f"{', '.join(first)} and {last}" if first else last)


def read_options(settings: Mapping[str, Any]) -> ManifestOptions:
    """Return the options; `UserError` names a setting that is unknown or wrong."""
    try:
        return ManifestOptions.model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        known = ", ".join(ManifestOptions.model_fields)
        raise UserError(f"options.{where}: {fault['msg'].removeprefix('Value error, ')} (known: {known})") from error
