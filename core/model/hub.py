"""Models on a hub: fetched or published where the user asks for it, and never otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.generate.bundle import BUNDLE

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ("*.safetensors", "*.json", "*.toml", "*.md")  # of a repository, nothing else is fetched


def is_hub_id(source: str) -> bool:
    """Return whether a source looks like ``owner/name``."""
    return bool(_HUB_ID.fullmatch(source))


def fetched(hub_id: str, *, download: bool, revision: str | None = None) -> Path:
    """Return the folder of a model of the hub, in the cache of huggingface_hub.

    Without ``download`` nothing is fetched. Raises `UserError` where the model is not in the cache, or cannot be
    reached, or does not exist.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            hub_id, revision=revision, allow_patterns=list(_FILES), local_files_only=not download
        )
    except FileNotFoundError as error:  # neither in the cache nor reachable
        todo = "is the hub reachable?" if download else "give download=True, or the folder of a model"
        raise UserError(f"{hub_id}: is no folder, and not in the cache of the hub; {todo}") from error
    except Exception as error:
        raise _hub_error(hub_id, error) from error
    return Path(folder)


def push(folder: str | Path, hub_id: str, *, token: str | None = None, private: bool = True) -> str:
    """Publish a bundle that `core.export` has written as ``owner/name``, and return the address of the commit.

    A run folder is refused: its latents show the training studies. ``private``: only the owner sees a repository that
    is made. Raises `UserError` where the folder is no bundle, or the hub refuses.
    """
    from huggingface_hub import HfApi

    folder = Path(folder).expanduser()
    if not (folder / BUNDLE).is_file():
        raise UserError(
            f"{folder}: is no bundle (it has no {BUNDLE}), and a run folder holds latents of its training studies;"
            " export it first: python -m core.export RUN --out FOLDER"
        )
    if not is_hub_id(hub_id):
        raise UserError(f"'{hub_id}': a hub id is OWNER/NAME")
    hub = HfApi(token=token)
    try:
        hub.create_repo(hub_id, private=private, exist_ok=True)
        commit: Any = hub.upload_folder(
            repo_id=hub_id, folder_path=folder, allow_patterns=list(_FILES), commit_message="MedWeave bundle"
        )
    except Exception as error:
        raise _hub_error(hub_id, error) from error
    return str(commit.commit_url)


def _hub_error(hub_id: str, error: Exception) -> UserError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return UserError(f"{hub_id}: the hub did not do it ({reason[:200]}); check the id, your token and the connection")
