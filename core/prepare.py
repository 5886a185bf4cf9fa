"""``python -m core.prepare NAME``: look through a data set before training, and keep what training takes of it.

Every file is read once. What was found is a table and audit.json; canonical samples are kept in shards, which
core.train reads in place of the files. A data set that is computed, such as phantom, is made first. What is there
already is kept, so a stopped command goes on where it was. Nothing is downloaded.
"""

from __future__ import annotations

import inspect
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.cli.command import Parser, path, run
from core.errors import UserError, join_choices, unknown_name

if TYPE_CHECKING:
    from core.config.registry import DataSource, Registry
    from core.contract.discovery import Catalog
    from core.contract.modality import DatasetAdapter
    from core.data.prepared.prepare import Order, Report

_OF_PREPARING = ("preset", "modality", "flow", "set", "audit_only", "strict", "num")  # what --dicom does not do


def parser() -> Parser:
    """The flags of ``core.prepare``."""
    flags = Parser(prog="python -m core.prepare", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    flags.add_argument("data", help="a data set of registry.toml")
    flags.add_argument("--preset", help="the sizes of the samples: tiny, tiny3d, small, paper")
    flags.add_argument("--modality", help="modalities to prepare, comma-separated (default: all that are found)")
    flags.add_argument("--flow", help="the same, named as the flow that will be trained")
    flags.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the run to come")
    flags.add_argument("--audit-only", action="store_true", help="keep no samples")
    flags.add_argument("--strict", action="store_true", help="exit code 2 where the audit finds an error")
    flags.add_argument("--root", type=path, help="the data set's folder (default: that of registry.toml)")
    flags.add_argument("--out", type=path, help="folder for all that is written (default: data/prepared/NAME)")
    flags.add_argument("--num", type=_count, help="of a computed data set, number of studies (default: its own)")
    flags.add_argument("--seed", type=int, help="of a computed data set, one number that decides every draw")
    flags.add_argument(
        "--workers", type=_count, help="processes (default: one per core); the files do not depend on it"
    )
    flags.add_argument(
        "--dicom", type=_count, metavar="N", help="of a computed data set, write N patients as DICOM studies, and stop"
    )
    flags.add_argument("--quiet", action="store_true", help="no progress bar")
    flags.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the one found")
    return flags


def main(arguments: Sequence[str]) -> None:
    """Parse, find the data set, make it where it is computed, prepare it."""
    options = parser().parse_args(arguments)

    from rich.console import Console

    from core.config.registry import load_registry
    from core.config.run_config import load_catalog
    from core.data.prepared.prepare import prepare
    from core.data.records import make_data

    registry = load_registry(options.registry)
    catalog = load_catalog(registry)
    known = registry.data_source(options.data, catalog.datasets)
    source = _placed(known, options)
    if options.dicom is not None:
        Console(highlight=False, soft_wrap=True).print(_written_as_dicom(source, options), markup=False)
        return
    given = {name: getattr(options, name) for name in ("num", "seed") if getattr(options, name) is not None}
    settings = settings_of(source.adapter, given, catalog.datasets)
    order = _order(source, options, registry, catalog)
    console = Console(highlight=False, soft_wrap=True)
    if options.dry_run:
        console.print(_planned(source, order, settings, options), markup=False)
        return
    if source.adapter.make is None:
        make_data(source)
    else:
        source.adapter.make(source.root, **settings, **_shared(source.adapter, options))
        console.print(f"'{options.data}' is in {source.root}", markup=False)
    order = replace(order, source=_looked_at(source))
    report = prepare(order)
    console.print(_told(order, report, known), markup=False)
    if options.strict:
        _refuse(order, report)


def settings_of(
    adapter: DatasetAdapter, given: dict[str, Any], datasets: Mapping[str, DatasetAdapter]
) -> dict[str, Any]:
    """The options for the adapter's ``make``; `UserError` where it makes nothing or takes no such option."""
    if not given:
        return given
    if adapter.make is None:
        able = [name for name, other in datasets.items() if other.make is not None]
        raise UserError(
            f"data set '{adapter.name}' is collected, not computed: leave {_flags(given)} out (computed:"
            f" {join_choices(able)})"
        )
    takes = set(inspect.signature(adapter.make).parameters)
    refused = [name for name in given if name not in takes]
    if refused:
        raise UserError(f"data set '{adapter.name}' takes no {_flags(refused)}; leave it out")
    return given


def _shared(adapter: DatasetAdapter, options: Namespace) -> dict[str, Any]:
    """What making and preparing have in common, as far as ``make`` takes it."""
    said = {"workers": options.workers, "progress": False if options.quiet else None}
    takes = inspect.signature(adapter.make).parameters if adapter.make is not None else ()
    return {name: value for name, value in said.items() if value is not None and name in takes}


def _placed(source: DataSource, options: Namespace) -> DataSource:
    """The data set with the folders that were asked for: what is prepared of another root goes beside it."""
    root = options.root or source.root
    beside = source.prepared if options.root is None else root.resolve().with_name(f"{root.resolve().name}.prepared")
    return replace(source, root=root, prepared=options.out or beside)


def _written_as_dicom(source: DataSource, options: Namespace) -> str:
    """Write patients as DICOM studies, beside the root where no folder is given; returns what was done."""
    unused = [name.replace("_", "-") for name in _OF_PREPARING if getattr(options, name)]
    if unused:
        raise UserError(f"--dicom writes studies and stops: leave {_flags(unused)} out")
    root = source.root.resolve()
    out = options.out or root.with_name(f"{root.name}.dicom")
    if options.dry_run and source.adapter.dicom is not None:
        return f"would write {options.dicom} patients of '{source.name}' as DICOM studies to {out}"
    said = {"seed": options.seed, "workers": options.workers, "progress": False if options.quiet else None}
    given = {name: value for name, value in said.items() if value is not None}
    source.adapter.write_dicom(source.root, out, options.dicom, **given)
    return f"{options.dicom} patients of '{source.name}' are in {out} as DICOM studies"


def _order(source: DataSource, options: Namespace, registry: Registry, catalog: Catalog) -> Order:
    """What shall be prepared, and how; `UserError` for a wrong preset, flow, modality or setting."""
    from core.config.overrides import with_overrides
    from core.config.run_config import Flags, resolve
    from core.data.prepared.prepare import Order
    from core.data.records import scanned
    from core.engine.workers import num_cores
    from core.flow.grammar import parse_flow
    from core.flow.patient_pools import split_by_patient

    config = resolve(
        registry,
        catalog.modalities,
        Flags(data=source.name, preset=options.preset, flow=options.flow, set=options.set),
    )
    modalities = with_overrides(catalog.modalities, config.preset, config.parts)
    asked: tuple[str, ...] = ()
    if options.flow is not None:
        flow = parse_flow(config.flow.of("align"), modalities, config.aliases, {**catalog.broken, **catalog.off})
        asked = flow.modalities
    if options.modality is not None:
        asked += _named(options.modality, modalities, config.aliases)
    dealt = source.entry.split == "by_patient"
    assert source.prepared is not None  # noqa: S101 - the registry gives every data set a folder
    return Order(
        dataset=source.name,
        root=source.root,
        out=source.prepared,
        preset=config.preset,
        source="",
        records=scanned(source),
        split=(lambda record: split_by_patient([record])[0]) if dealt else (lambda record: record),
        choose=lambda found: _chosen(source, modalities, config.preset, asked, found),
        keep=not options.audit_only,
        workers=options.workers or num_cores(),
        silent=options.quiet,
    )


def _named(text: str, modalities: Mapping[str, Any], aliases: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The modalities of a list; an alias stands for its members."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"--modality names none; give some of {join_choices(modalities)}, comma-separated")
    for name in names:
        if name not in modalities and name not in aliases:
            raise unknown_name("modality", name, [*modalities, *aliases], adjective="installed")
    return tuple(dict.fromkeys(member for name in names for member in aliases.get(name, (name,))))


def _chosen(
    source: DataSource, modalities: Mapping[str, Any], preset: str, asked: Sequence[str], found: Sequence[str]
) -> dict[str, Any]:
    """How each modality is read that was found and asked for; `UserError` where none is left."""
    from core.data.prepared.settings import settings_of
    from core.data.records import readers_in

    wanted = [name for name in dict.fromkeys(asked or found) if name in found and name in modalities]
    able = [name for name in wanted if preset in modalities[name].presets and modalities[name].parts(preset).preprocess]
    if not able:
        what = f"none of {', '.join(asked)}" if asked else "nothing that is installed"
        raise UserError(
            f"data set '{source.name}' holds {what} at preset '{preset}' (it holds {join_choices(found)}); choose"
            " another --modality or --preset"
        )
    readers = readers_in(source, modalities, preset, able)
    return {name: settings_of(name, modalities[name].parts(preset), readers.get(name)) for name in able}


def _looked_at(source: DataSource) -> str:
    from core.data.records import source_of_studies

    return source_of_studies(source)


def _planned(source: DataSource, order: Order, settings: Mapping[str, Any], options: Namespace) -> str:
    lines = []
    if source.adapter.make is not None:
        shared = _shared(source.adapter, options)
        told = ", ".join(f"{name} {value}" for name, value in {**settings, **shared}.items()) or "its own settings"
        lines.append(f"would make '{source.name}' in {source.root} with {told}")
    what = "audit" if options.audit_only else "audit and keep samples of"
    lines.append(f"would {what} '{source.name}' from {source.root} at preset '{order.preset}' in {order.out}")
    return "\n".join(lines)


def _told(order: Order, report: Report, known: DataSource) -> str:
    """The table, where everything is, and whether training looks there."""
    from core.data.audit.findings import table
    from core.data.prepared.prepare import AUDIT

    files = sum(report.files.values())
    new = "" if report.read == files else f" ({files - report.read:,} of them before)"
    lines = [table(report.findings), "", f"{files:,} files were read{new}; all findings: {order.folder / AUDIT}"]
    if order.keep:
        lines.append(f"samples at preset '{order.preset}': {order.folder}; {_taken(order, known)}")
    return "\n".join(lines).encode(errors="backslashreplace").decode()  # names of files need not be Unicode


def _taken(order: Order, known: DataSource) -> str:
    """Whether training takes the samples, or what is to be set that it does: it looks where the registry says."""
    folders = {"root": (known.root, order.root), "prepared": (known.prepared, order.out)}
    unset = [
        f"datasets.{known.name}.{key} = '{used}'"
        for key, (said, used) in folders.items()
        if said is None or said.resolve() != used.resolve()
    ]
    if not unset:
        return "core.train takes them from there"
    return f"for core.train to take them, set {' and '.join(unset)} in registry.local.toml"


def _refuse(order: Order, report: Report) -> None:
    """`UserError` where the audit found an error."""
    wrong = dict.fromkeys(one.check for one in report.findings if one.verdict == "error")
    if wrong:
        raise UserError(
            f"data set '{order.dataset}': the audit found {', '.join(wrong)} (--strict); correct the data, or leave"
            " --strict out to go on with what can be read"
        )


def _flags(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f"--{name}" for name in names)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(text)
    return int(text)


_count.__name__ = "count (1 or more)"

if __name__ == "__main__":
    run(main)
