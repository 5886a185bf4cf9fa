"""Weights on disk: safetensors beside JSON, written beside and renamed, loaded strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, listed

if TYPE_CHECKING:
    from torch.nn import Module

_WEIGHTS, _ABOUT = "weights.safetensors", "about.json"


def save_weights(module: Module, folder: Path, about: Mapping[str, Any]) -> None:
    """Write the module's state and a JSON description into a folder; a kill leaves the old files or the new.

    The description names the bytes of the weights it belongs to, so that a kill between the two files is noticed.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    content = save(state)
    replace_file(folder / _WEIGHTS, content)
    described = {**about, "weights_bytes": len(content)}
    replace_file(folder / _ABOUT, (json.dumps(described, indent=2, sort_keys=True) + "\n").encode())


def load_weights(module: Module, folder: Path) -> dict[str, Any]:
    """Load a module's state strictly and return its description.

    Raises `UserError` where files are missing, belong to different saves, or the names or shapes do not fit.
    """
    from safetensors.torch import load

    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        content = (folder / _WEIGHTS).read_bytes()
        state = load(content)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: no readable weights ({error}); train this part, or name another folder") from error
    if about.get("weights_bytes") != len(content):
        raise UserError(f"{folder}: {_ABOUT} and {_WEIGHTS} belong to different saves; train this part again")
    own = module.state_dict()
    missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
    if missing or extra:
        raise UserError(f"{folder}: weights do not fit (missing: {listed(missing)}; unknown: {listed(extra)})")
    wrong = [
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if own[name].shape != state[name].shape
    ]
    if wrong:
        raise UserError(f"{folder}: weights of another size ({'; '.join(wrong[:3])}): was it another preset?")
    module.load_state_dict(state, strict=True)
    return about


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it, flushed to disk, then renamed."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
