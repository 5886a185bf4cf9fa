"""The studies that a run trains on, and those it is measured on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b

from core.config.registry import DataSource, Registry
from core.contract.modality import DatasetAdapter, PartConfig
from core.data.prepared.samples import PreparedSamples
from core.data.readability import drop_unreadable
from core.data.records import make_data, prepared_of, readers_of, records_of, source_of
from core.data.studies import Studies
from core.engine.distributed import Compute
from core.errors import MedWeaveWarning, UserError, join_choices
from core.flow.run import Run
from core.types import Record


@dataclass(frozen=True)
class Cohort:
    """Training and held-out studies; ``fingerprint`` changes with who is in them and what may be seen of whom.

    ``held_out`` (split ``validation``) is measured during training, ``test`` once at the end; a data set without a test
    split gives its validation split. ``whole`` is the training split with nothing hidden, study by study that of
    ``training``: for what learns one modality alone, and for the finding classifiers that judge generated data.
    ``findings_of`` and ``details_of`` read texts, and ``measurements_of`` the anatomy of a study, by data set, where
    its adapter can.
    """

    training: Studies
    held_out: Studies
    test: Studies
    whole: Studies
    fingerprint: str
    identity: str = ""
    findings_of: Mapping[str, Callable[[str], Mapping[str, int]]] = field(default_factory=dict)
    details_of: Mapping[str, Callable[[str], Mapping[str, int]]] = field(default_factory=dict)
    measurements_of: Mapping[str, Callable[[Record], Mapping[str, float]]] = field(default_factory=dict)


def gather_cohort(run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter], compute: Compute) -> Cohort:
    """Make what is missing of the computed data sets of a run, scan them all, and return its studies.

    `UserError` where a phase of the run would find no study to train on; a warning where nothing can be measured.
    """
    if not run.config.data.names:
        raise UserError(f"no data set is named; give some with --data (known: {join_choices(registry.datasets)})")
    sources = [source_of(name, run, registry, datasets) for name in run.config.data.names]
    with compute.main_first():
        for source in sources:
            make_data(source)
    prepared = prepared_of(sources, run)
    readers = readers_of(sources, run)
    drop = partial(_drop_unreadable, run, readers=readers, prepared=prepared)
    records = [
        record
        for source in sources
        for record in records_of(source, run, prepared.get(source.name), partial(drop, source))
    ]
    collected = frozenset(source.name for source in sources if source.adapter.make is None)
    studies = partial(_studies, run, readers=readers, prepared=prepared, collected=collected)
    training, held_out = (studies(records, split=split) for split in ("train", "validation"))
    test = studies(_measured(records), split="test")
    _require_data(run, training)
    if compute.is_main:
        _warn_of_nothing_held_out(run, held_out)
        _warn_of_shared_split(records)
    return Cohort(
        training=training,
        held_out=held_out,
        test=test,
        whole=_with_nothing_hidden(run, training),
        fingerprint=_fingerprint(training, held_out, test),
        identity=_fingerprint(training, held_out, test, seen=False),
        findings_of={
            source.name: source.adapter.findings_of for source in sources if source.adapter.findings_of is not None
        },
        details_of={
            source.name: source.adapter.details_of for source in sources if source.adapter.details_of is not None
        },
        measurements_of={
            source.name: source.adapter.measurements_of
            for source in sources
            if source.adapter.measurements_of is not None
        },
    )


def _with_nothing_hidden(run: Run, training: Studies) -> Studies:
    """Return the training studies outside of any pool."""
    records = [replace(record, pool=None) for record in training.records]
    return training.seen_as(records, [run.visible(record) for record in records])


def _drop_unreadable(
    run: Run,
    source: DataSource,
    records: list[Record],
    *,
    readers: Mapping[tuple[str, str], PartConfig],
    prepared: Mapping[str, PreparedSamples],
) -> list[Record]:
    """Return the studies of a collected data set without what cannot be read, as far as it was not prepared."""
    if source.adapter.make is not None:
        return records
    known = prepared.get(source.name)
    parts = {name: run.parts(name) for name in run.flows.union.modalities if known is None or not known.has(name)}
    return drop_unreadable(source.name, records, parts, readers)


def _studies(
    run: Run,
    records: Sequence[Record],
    *,
    readers: Mapping[tuple[str, str], PartConfig],
    prepared: Mapping[str, PreparedSamples],
    collected: Collection[str],
    split: str,
) -> Studies:
    chosen = [record for record in records if record.split == split]
    parts = {name: run.parts(name) for name in run.flows.union.modalities}
    return Studies(chosen, [run.visible(record) for record in chosen], parts, readers, prepared, collected)


def _require_data(run: Run, training: Studies) -> None:
    """`UserError` where the studies lack what a phase of the run needs, before the first step of any."""
    phases = run.config.phases.run
    for phase in ("autoencoder", "diffuse"):
        for name in (name for weights in run.trained_once(phase) for name in weights.owners) if phase in phases else ():
            training.require_indices_with(name)
    aligned = run.rounds["align"] if "align" in phases else ()
    for pair in (pair for train_round in aligned for pair in train_round.edge.pairs):
        training.require_indices_with(*pair, least=2)  # one study alone has no negative to differ from
    for train_round in run.rounds["guide"] if "guide" in phases else ():
        coupled = train_round.edge.coupled
        if not any(training.indices_with(*pair) for pair in coupled):
            training.require_indices_with(*coupled[0])
    for name in run.outputs if "diffuse" in phases else ():
        sources = run.prompt_sources(name)
        if sources and not any(training.indices_with(name, source) for source in sources):
            raise UserError(
                f"no study to train on holds {name} and one of its prompts ({', '.join(sources)}): name data sets that"
                " do with --data, or change the flow"
            )


def _measured(records: Sequence[Record]) -> list[Record]:
    """Return the records, with split ``validation`` as split ``test`` where a data set has no other."""
    known = {record.dataset for record in records if record.split == "test"}
    return [
        replace(record, split="test") if record.split == "validation" and record.dataset not in known else record
        for record in records
    ]


def _warn_of_shared_split(records: Sequence[Record]) -> None:
    splits: dict[str, set[str]] = {}
    for record in records:
        splits.setdefault(record.dataset, set()).add(record.split)
    missing = [name for name, names in splits.items() if "validation" in names and "test" not in names]
    if missing:
        message = (
            f"no test studies in {', '.join(missing)}: measured on validation studies, on which reliable findings and"
            " beneficial partners are chosen too; give a test split for figures to publish"
        )
        warnings.warn(MedWeaveWarning(message), stacklevel=3)


def _warn_of_nothing_held_out(run: Run, held_out: Studies) -> None:
    empty = [name for name in run.flows.union.modalities if not held_out.indices_with(name)]
    if empty:
        message = f"no validation study holds {', '.join(empty)}: nothing held out is measured there"
        warnings.warn(MedWeaveWarning(message), stacklevel=3)


def _fingerprint(*splits: Studies, seen: bool = True) -> str:
    """Return a digest of the studies; with ``seen``, of the modalities too that the run sees of each."""
    digest = blake2b(digest_size=16)
    for studies in splits:
        for record, names in zip(studies.records, studies.visible, strict=True):
            row = (
                record.dataset,
                record.patient,
                record.study,
                record.split,
                names if seen else (),
                sorted(record.labels.items()),
                sorted(record.texts.items()),
            )
            digest.update(repr(row).encode())
    return digest.hexdigest()
