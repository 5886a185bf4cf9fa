"""The hooks of a plugin. All are optional; none may load weights, read a disk or use a network."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from core.contract.modality import DatasetAdapter, MetricSpec, Modality, PackagedModel

PROJECT = "medweave"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_modalities() -> Sequence[Modality]:  # type: ignore[empty-body]
    """Return the modalities that the plugin offers."""


@hookspec
def register_datasets() -> Sequence[DatasetAdapter]:  # type: ignore[empty-body]
    """Return the data sets that the plugin can scan."""


@hookspec
def register_metrics() -> Sequence[MetricSpec]:  # type: ignore[empty-body]
    """Return the measures that relate two modalities; those of one modality stand in ``Modality.metrics``."""


@hookspec
def register_models() -> Sequence[PackagedModel]:  # type: ignore[empty-body]
    """Return the trained models that the plugin brings along."""
