"""States of a stage on disk, to go on from after a kill.

Tensors with a description, in one safetensors file: whole or absent, and never unpickled.

Weights on disk: one safetensors file that describes itself, a readable copy of the description, strict loading.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MedWeaveWarning, UserError
from core.io import atomic_write

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


_KEY = "about"  # the entry of the safetensors header that holds our JSON


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and their description as one file; a kill leaves the old file or the new one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as beside:
        save_file(_apart(tensors), beside, metadata={_KEY: json.dumps(about, sort_keys=True)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU and their description; `UserError` where the file is missing, cut short or not ours."""
    with _opened(path) as (file, about):
        # Cloned: torch's own memory is aligned, and so every run adds in the same order.
        return {name: file.get_tensor(name).clone() for name in file.keys()}, about  # noqa: SIM118


def read_about(path: Path) -> dict[str, Any]:
    """The description alone; `UserError` as `read_tensors`."""
    with _opened(path) as (_, about):
        return about


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file, json.loads((file.metadata() or {})[_KEY])
    except KeyError:
        raise UserError(f"{path}: holds no description; it was not written by MedWeave") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON as a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as beside:
        beside.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A short name for the values of these tensors: equal values, equal name."""
    import torch

    digest = blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU and each with memory of its own: safetensors refuses tied weights that share theirs."""
    seen: set[int] = set()
    apart = {}
    for name, value in tensors.items():
        moved = value.detach().cpu().contiguous()
        apart[name] = moved.clone() if moved.data_ptr() in seen else moved
        seen.add(apart[name].data_ptr())
    return apart


WEIGHTS, ABOUT = "weights.safetensors", "about.json"
_MOST = 6  # names in a message


def save_weights(module: Module, folder: Path, about: Mapping[str, Any]) -> None:
    """Write the module's state and its description into a folder; a kill leaves the old weights or the new.

    The description stands in the header of the weights, so that the two never fall apart; ``about.json`` is a copy to
    read.
    """
    write_tensors(folder / WEIGHTS, module.state_dict(), about)
    write_json(folder / ABOUT, about)


def load_weights(module: Module, folder: Path) -> dict[str, Any]:
    """Load a module's state strictly and return its description.

    Raises `UserError` where the file is missing or broken, or the names or shapes do not fit.
    """
    with _readable(folder):
        state, about = read_tensors(folder / WEIGHTS)
    require_fit(state, module.state_dict(), folder)
    module.load_state_dict(state, strict=True)
    return about


def load_about(folder: Path) -> dict[str, Any]:
    """The description of saved weights; `UserError` where the file is missing or broken."""
    with _readable(folder):
        return read_about(folder / WEIGHTS)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder}: no readable weights ({error}); train this part, or name another folder") from error


def require_fit(found: Mapping[str, Tensor], own: Mapping[str, Tensor], where: Path) -> None:
    """`UserError` where the names or shapes of stored tensors are not those that are needed."""
    missing, extra = own.keys() - found.keys(), found.keys() - own.keys()
    if missing or extra:
        raise UserError(
            f"{where}: weights do not fit (missing: {_few(missing)}; unknown: {_few(extra)}): was it another"
            " preset or part? train again, or name another folder"
        )
    wrong = [
        f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if own[name].shape != found[name].shape
    ]
    if wrong:
        raise UserError(f"{where}: weights of another size ({'; '.join(wrong[:3])}): was it another preset?")


def _few(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return (", ".join(sorted(names)[:_MOST]) or "none") + more


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
                warnings.warn(MedWeaveWarning(f"{error}; going on from an earlier state"), stacklevel=2)
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
