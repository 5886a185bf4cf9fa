"""Any collection of files with a table ``manifest.csv`` in its folder, a row per file."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import DatasetAdapter, hookimpl


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """Return the adapter ``manifest``; name it in a data set of registry.toml."""
    from plugins.manifest.datasets import MANIFEST

    return (MANIFEST,)
