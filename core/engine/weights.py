"""Weights on disk: one safetensors file that describes itself, a readable copy of the description, strict loading."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine.tensors import read_about, read_tensors, write_json, write_tensors
from core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

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
