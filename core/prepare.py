"""``python -m core.prepare NAME``: audit a data set before training, and store its samples as training reads them.

Every file is read once. The findings of the audit are a table and audit.json; canonical samples are stored in shards,
which core.train reads in place of the files. A data set that is computed, such as phantom, is made first. An
interrupted command resumes when it is given again. Nothing is downloaded.
"""

from __future__ import annotations

import inspect
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.cli.command import Parser, path, run
from core.cli.text import printable
from core.errors import UserError, join_choices, unknown_name

if TYPE_CHECKING:
    from core.config.installation import Installation
    from core.config.registry import DataSource
    from core.contract.modality import DatasetAdapter
    from core.data.prepared.prepare import PrepareRequest, Report

_MOST_WORKERS = 512
_OF_PREPARING = ("preset", "modality", "flow", "set", "audit_only", "strict", "num")  # what --dicom does not do


def parser() -> Parser:
    """The flags of ``core.prepare``."""
    flags = Parser(prog="python -m core.prepare", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    flags.add_argument("data", help="a data set of registry.toml")
    flags.add_argument("--preset", help="the sizes of the samples: tiny, tiny3d, small, paper")
    flags.add_argument("--modality", help="modalities to prepare, comma-separated (default: all that the data set has)")
    flags.add_argument("--flow", help="the same, named as the flow that will be trained")
    flags.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the run to come")
    flags.add_argument("--audit-only", action="store_true", help="store no samples")
    flags.add_argument("--strict", action="store_true", help="exit code 2 where the audit finds an error")
    flags.add_argument("--root", type=path, help="the data set's folder (default: that of registry.toml)")
    flags.add_argument("--out", type=path, help="folder for all that is written (default: data/prepared/NAME)")
    flags.add_argument("--num", type=_count, help="of a computed data set, number of studies (default: its own)")
    flags.add_argument("--seed", type=int, help="of a computed data set, one number that decides every draw")
    flags.add_argument(
        "--workers", type=_processes, help="processes (default: one per core); the files do not depend on it"
    )
    flags.add_argument("--cluster", metavar="ADDRESS", default="", help="a Dask scheduler whose workers read the files")
    flags.add_argument(
        "--dicom", type=_count, metavar="N", help="of a computed data set, write N patients as DICOM studies, and stop"
    )
    flags.add_argument("--quiet", action="store_true", help="no progress bar")
    flags.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the default one")
    return flags


def main(arguments: Sequence[str]) -> None:
    """Parse the flags, make the data set where it is computed, and prepare it."""
    options = parser().parse_args(arguments)

    from rich.console import Console

    from core.config.installation import load_installation
    from core.data.prepared.prepare import prepare
    from core.data.records import make_data

    installation = load_installation(options.registry)
    datasets = installation.catalog.datasets
    registered = installation.registry.data_source(options.data, datasets)
    source = _with_folders(registered, options)
    if options.dicom is not None:
        Console(highlight=False, soft_wrap=True).print(_written_as_dicom(source, options), markup=False)
        return
    chosen = {name: getattr(options, name) for name in ("num", "seed") if getattr(options, name) is not None}
    settings = settings_of(source.adapter, chosen, datasets)
    request = _request(source, options, installation)
    console = Console(highlight=False, soft_wrap=True)
    if options.dry_run:
        console.print(printable(_planned(source, request, settings, options)), markup=False)
        return
    if source.adapter.make is None:
        make_data(source)
    else:
        source.adapter.make(source.root, **settings, **_shared(source.adapter, options))
        console.print(f"'{options.data}' is in {source.root}", markup=False)
    request = replace(request, source=_digest_of(source))
    report = prepare(request)
    console.print(printable(_summary(request, report, registered)), markup=False)
    if options.strict:
        _require_no_error(request, report)


def settings_of(
    adapter: DatasetAdapter, chosen: dict[str, Any], datasets: Mapping[str, DatasetAdapter]
) -> dict[str, Any]:
    """Return the options for the adapter's ``make``; `UserError` where it makes nothing or takes no such option."""
    if not chosen:
        return chosen
    if adapter.make is None:
        able = [name for name, other in datasets.items() if other.make is not None]
        raise UserError(
            f"data set '{adapter.name}' is collected, not computed: leave {_flags(chosen)} out (computed:"
            f" {join_choices(able)})"
        )
    takes = set(inspect.signature(adapter.make).parameters)
    unknown = [name for name in chosen if name not in takes]
    if unknown:
        raise UserError(f"data set '{adapter.name}' takes no {_flags(unknown)}; leave it out")
    return chosen


def _shared(adapter: DatasetAdapter, options: Namespace) -> dict[str, Any]:
    """Return the options that making and preparing have in common, as far as ``make`` takes them."""
    takes = inspect.signature(adapter.make).parameters if adapter.make is not None else ()
    return {name: value for name, value in _execution(options).items() if name in takes}


def _execution(options: Namespace) -> dict[str, Any]:
    """Return how the work is done, as far as the command line says it: processes, and whether a bar is shown."""
    values = {"workers": options.workers, "progress": False if options.quiet else None}
    return {name: value for name, value in values.items() if value is not None}


def _with_folders(source: DataSource, options: Namespace) -> DataSource:
    """Return the data set with the folders of the command line; samples of another root go next to that root."""
    root = options.root or source.root
    default = source.prepared if options.root is None else root.resolve().with_name(f"{root.resolve().name}.prepared")
    return replace(source, root=root, prepared=options.out or default)


def _written_as_dicom(source: DataSource, options: Namespace) -> str:
    """Write patients as DICOM studies, next to the root where no folder is given; return what was done."""
    unused = [name.replace("_", "-") for name in _OF_PREPARING if getattr(options, name)]
    if unused:
        raise UserError(f"--dicom writes studies and stops: leave {_flags(unused)} out")
    root = source.root.resolve()
    out = options.out or root.with_name(f"{root.name}.dicom")
    if options.dry_run and source.adapter.dicom is not None:
        return f"would write {options.dicom} patients of '{source.name}' as DICOM studies to {out}"
    seed = {} if options.seed is None else {"seed": options.seed}
    source.adapter.write_dicom(source.root, out, options.dicom, **seed, **_execution(options))
    return f"{options.dicom} patients of '{source.name}' are in {out} as DICOM studies"


def _request(source: DataSource, options: Namespace, installation: Installation) -> PrepareRequest:
    """Return what shall be prepared, and how; `UserError` for a wrong preset, flow, modality or setting."""
    from core.config.overrides import with_overrides
    from core.config.run_config import Flags
    from core.data.prepared.prepare import PrepareRequest
    from core.data.records import scan
    from core.engine.workers import Workers, num_cores
    from core.flow.grammar import parse_flow
    from core.flow.patient_pools import split_by_patient

    catalog = installation.catalog
    config = installation.resolve(Flags(data=source.name, preset=options.preset, flow=options.flow, set=options.set))
    modalities = with_overrides(catalog.modalities, config.preset, config.parts)
    wanted: tuple[str, ...] = ()
    if options.flow is not None:
        wanted = parse_flow(config.flow.of("align"), modalities, config.aliases, catalog.unusable).modalities
    if options.modality is not None:
        wanted += _named(options.modality, modalities, config.aliases)
    by_patient = source.entry.split == "by_patient"
    assert source.prepared is not None  # noqa: S101 - the registry gives every data set a folder
    return PrepareRequest(
        dataset=source.name,
        root=source.root,
        out=source.prepared,
        preset=config.preset,
        source="",
        records=scan(source),
        split=(lambda record: split_by_patient([record])[0]) if by_patient else (lambda record: record),
        choose=lambda present: _settings(source, modalities, config.preset, wanted, present),
        keep=not options.audit_only,
        computed=source.adapter.make is not None,
        workers=Workers(options.workers or num_cores(), options.cluster, silent=options.quiet),
        silent=options.quiet,
    )


def _named(text: str, modalities: Mapping[str, Any], aliases: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the modalities of a list; an alias stands for its members."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"--modality names none; give some of {join_choices(modalities)}, comma-separated")
    for name in names:
        if name not in modalities and name not in aliases:
            raise unknown_name("modality", name, [*modalities, *aliases], adjective="installed")
    return tuple(dict.fromkeys(member for name in names for member in aliases.get(name, (name,))))


def _settings(
    source: DataSource, modalities: Mapping[str, Any], preset: str, wanted: Sequence[str], present: Sequence[str]
) -> dict[str, Any]:
    """Return how each modality is read that is wanted and present; `UserError` where none is left."""
    from core.config.overrides import readers_in
    from core.data.prepared.settings import settings_of

    names = [name for name in dict.fromkeys(wanted or present) if name in present and name in modalities]
    able = [name for name in names if preset in modalities[name].presets and modalities[name].parts(preset).preprocess]
    if not able:
        what = f"none of {', '.join(wanted)}" if wanted else "nothing that is installed"
        raise UserError(
            f"data set '{source.name}' holds {what} at preset '{preset}' (it holds {join_choices(present)}); choose"
            " another --modality or --preset"
        )
    readers = readers_in(source, modalities, preset, able)
    return {name: settings_of(name, modalities[name].parts(preset), readers.get(name)) for name in able}


def _digest_of(source: DataSource) -> str:
    from core.data.records import source_of_studies

    return source_of_studies(source)


def _planned(source: DataSource, request: PrepareRequest, settings: Mapping[str, Any], options: Namespace) -> str:
    """Return what the command would do."""
    lines = []
    if source.adapter.make is not None:
        shared = _shared(source.adapter, options)
        text = ", ".join(f"{name} {value}" for name, value in {**settings, **shared}.items()) or "its own settings"
        lines.append(f"would make '{source.name}' in {source.root} with {text}")
    what = "audit" if options.audit_only else "audit and store samples of"
    lines.append(f"would {what} '{source.name}' from {source.root} at preset '{request.preset}' in {request.out}")
    return "\n".join(lines)


def _summary(request: PrepareRequest, report: Report, registered: DataSource) -> str:
    """Return the table of findings, the folders, and whether training reads from there."""
    from core.data.audit.findings import table
    from core.data.prepared.prepare import AUDIT

    files = sum(report.files.values())
    new = "" if report.read == files else f" ({files - report.read:,} of them earlier)"
    lines = [table(report.findings), "", f"{files:,} files were read{new}; all findings: {request.folder / AUDIT}"]
    if request.keep:
        lines.append(f"samples at preset '{request.preset}': {request.folder}; {_use_of(request, registered)}")
    return "\n".join(lines).encode(errors="backslashreplace").decode()  # names of files need not be Unicode


def _use_of(request: PrepareRequest, registered: DataSource) -> str:
    """Say that training reads the samples, or what to set so that it does: it reads where the registry says."""
    folders = {"root": (registered.root, request.root), "prepared": (registered.prepared, request.out)}
    unset = [
        f"datasets.{registered.name}.{key} = '{used}'"
        for key, (default, used) in folders.items()
        if default is None or default.resolve() != used.resolve()
    ]
    if not unset:
        return "core.train reads them from there"
    return f"for core.train to read them, set {' and '.join(unset)} in registry.local.toml"


def _require_no_error(request: PrepareRequest, report: Report) -> None:
    """Raise `UserError` where the audit has a finding of the verdict ``error``."""
    wrong = dict.fromkeys(finding.check for finding in report.findings if finding.verdict == "error")
    if wrong:
        raise UserError(
            f"data set '{request.dataset}': the audit found {', '.join(wrong)} (--strict); correct the data, or leave"
            " --strict out to continue with what can be read"
        )


def _flags(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f"--{name}" for name in names)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(text)
    return int(text)


def _processes(text: str) -> int:
    if _count(text) > _MOST_WORKERS:
        raise ValueError(text)
    return int(text)


_count.__name__ = "count (1 or more)"
_processes.__name__ = f"number of processes (1 to {_MOST_WORKERS})"

if __name__ == "__main__":
    run(main)
