"""What one generated study is made of and from: ``study.json`` in its folder, from which tables are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import UserError
from core.io.files import atomic_write

RECORD = "study.json"
DIGEST = "sha256:"  # how an input that is no text is shown


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class StudyRecord(BaseModel):
    """A generated study. ``files`` by modality are in its folder; inputs by modality are as provenance shows them.

    ``patient_id`` is that of its DICOM files. ``report``: the generated text, else the text that prompted it.
    ``labels``: 1 and 0 for present and absent, or words. ``labels_from``: the table that was given, or the generated
    report or prompt that the labeller of the training data read.
    ``sha256``: of every file, by its path in the folder.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    synthetic: Literal[True] = True
    study_id: str
    patient_id: str
    files: Mapping[str, str]
    seed: int
    index: int
    prompts: Mapping[str, str] = {}
    negative_prompts: Mapping[str, str] = {}
    conditions: Mapping[str, str] = {}
    report: str = ""
    report_from: Literal["", "generated", "prompt"] = ""
    labels: Mapping[str, str] = {}
    labels_from: Literal["", "table", "generated", "prompt"] = ""
    split: Literal["", "train", "validation", "test"] = ""
    sha256: Mapping[str, str] = {}

    def title(self) -> str:
        """Return its name, seed, prompts and conditions in one line; of files, that they were given."""
        inputs = {"from": self.prompts, "not": self.negative_prompts, "given": self.conditions}
        parts = [
            f"{word} {modality}" + ("" if shown.startswith(DIGEST) else f" '{' '.join(shown.split())}'")
            for word, table in inputs.items()
            for modality, shown in table.items()
        ]
        return "  ".join([f"{self.study_id}, seed {self.seed}", *parts])

    def write(self, folder: Path) -> None:
        """Write it into the folder of the study."""
        with atomic_write(folder / RECORD, overwrite=True) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> StudyRecord:
        """Read that of a study; `UserError` where it is missing or damaged."""
        path = folder / RECORD
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else "damaged"
            raise UserError(f"{path}: cannot be read ({reason}); run the command that made it again") from error
