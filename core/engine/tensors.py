"""Tensors with a description, in one safetensors file: whole or absent, and never unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.io import replacing

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "about"  # the entry of the safetensors header that holds our JSON


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and their description as one file; a kill leaves the old file or the new one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite=True) as beside:
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
    with replacing(path, overwrite=True) as beside:
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
