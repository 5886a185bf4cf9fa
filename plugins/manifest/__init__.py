"""Any collection of files with a table beside it: ``manifest.csv``, one row per file."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import DatasetAdapter, hookimpl


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """The adapter ``manifest``; name it in a data set of registry.toml."""
    from plugins.manifest.datasets import MANIFEST

    return (MANIFEST,)
