"""Public data sets of the four papers, each read in the layout in which its source publishes it."""

from __future__ import annotations

from collections.abc import Sequence

from core.api import DatasetAdapter, hookimpl


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """Return an adapter per data set, and ``folder`` for a collection of your own."""
    from plugins.public_datasets.adapters import ADAPTERS

    return ADAPTERS
