"""Networks from a local diffusers folder: safetensors only, every weight accounted for, no network connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.errors import UserError


def load_folder(kind: Any, given: str, subfolder: str) -> Any:
    """A diffusers network of class ``kind`` from ``given`` or from ``subfolder`` in it.

    Raises `UserError` where the folder is missing, holds another kind of network, has no safetensors, or where
    a weight is missing, left over or of another shape.
    """
    folder = _folder_of(given, subfolder)
    found = kind.load_config(folder, local_files_only=True).get("_class_name", kind.__name__)
    if found != kind.__name__:
        raise UserError(f"init_from '{folder}' holds a {found}, needed is a {kind.__name__}")
    try:
        network, report = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"init_from '{folder}' cannot be loaded: {str(error)[:300]}") from error
    wrong = {name: report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[name]}
    if wrong or report["error_msgs"]:
        shown = "; ".join(
            f"{name.replace('_', ' ')}: {len(keys)}, e.g. {sorted(keys)[0]}" for name, keys in wrong.items()
        )
        raise UserError(
            f"init_from '{folder}' does not hold the weights of its config.json: {shown or report['error_msgs']}"
        )
    # from_pretrained hands out networks in evaluation mode, those built from scratch are in training mode.
    return network.train()


def _folder_of(given: str, subfolder: str) -> Path:
    root = Path(given).expanduser()
    for folder in (root / subfolder, root):
        if (folder / "config.json").is_file():
            return folder
    what = "has no config.json" if root.is_dir() else "is not a folder"
    raise UserError(f"init_from '{given}' {what}; give a diffusers folder, or one with '{subfolder}/config.json' in it")
