"""The licence of a model: the union of the licences of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.contract.modality import DatasetAdapter
from core.errors import UserError, join_choices


@dataclass(frozen=True)
class DataLicence:
    """The terms of one data set, and whether they let weights be passed on that were trained on it."""

    dataset: str
    licence: str
    citation: str
    shareable: bool


def licences_of(names: Iterable[str], datasets: Mapping[str, DatasetAdapter]) -> list[DataLicence]:
    """Return the licences of these data sets; `UserError` for one that no installed plugin knows."""
    return [_licence_of(name, datasets) for name in names]


def _licence_of(name: str, datasets: Mapping[str, DatasetAdapter]) -> DataLicence:
    adapter = datasets.get(name)
    if adapter is None:
        raise UserError(
            f"data set '{name}': no installed plugin knows its licence (known: {join_choices(datasets)}); install that"
            " plugin, so that the terms of the data can be passed on"
        )
    return DataLicence(name, adapter.licence, adapter.citation, adapter.weights_may_be_shared)


def require_shareable(licences: Iterable[DataLicence]) -> None:
    """Raise `UserError` where the terms of a data set do not let weights be passed on."""
    closed = [f"{each.dataset} ({each.licence})" for each in licences if not each.shareable]
    if closed:
        raise UserError(
            f"the terms of its training data do not say that weights may be shared: {'; '.join(closed)}; read them, and"
            " give --licence-allows-sharing if you have the permission"
        )
