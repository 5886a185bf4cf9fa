"""States of a stage on disk, to go on from after a kill."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine.tensors import read_tensors, write_tensors
from core.errors import PlainWarning, UserError

if TYPE_CHECKING:
    from torch import Tensor

_KEPT = 2


class Checkpoints:
    """The two newest states of one stage: ``<folder>/<stage>/<step>.safetensors``.

    One file holds a whole state: tensors as safetensors, the rest as JSON in its header. It appears by a rename, so
    there is no moment at which half a state could be taken for one.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder = folder / re.sub(r"[^\w.+-]+", "_", stage)

    def save(self, step: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write the state before step ``step``, then drop what is older than the last two."""
        write_tensors(self.folder / f"{step:09d}.safetensors", tensors, about)
        for old in self._paths()[:-_KEPT]:
            old.unlink()

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest readable state, ``None`` where there is none; an unreadable one is left with a warning."""
        for path in reversed(self._paths()):
            try:
                return read_tensors(path)
            except UserError as error:
                warnings.warn(PlainWarning(f"{error}; going on from an earlier state"), stacklevel=2)
        return None

    def clear_rests(self) -> None:
        """Remove what a killed process left half-written."""
        for rest in self.folder.glob(".medweave-*"):
            rest.unlink()

    def remove(self) -> None:
        """Remove every state: the stage is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other stages have theirs there
            self.folder.parent.rmdir()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))
