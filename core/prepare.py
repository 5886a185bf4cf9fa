"""``python -m core.prepare phantom``: make a data set that is computed, not collected.

What is there already is kept, so a stopped run goes on where it was. Nothing is downloaded.
"""

from __future__ import annotations

import inspect
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli import Parser, path, run
from core.errors import UserError, listed

if TYPE_CHECKING:
    from core.modality import DatasetAdapter


def parser() -> Parser:
    """The flags of ``core.prepare``."""
    flags = Parser(prog="python -m core.prepare", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    flags.add_argument("data", help="a data set of registry.toml whose adapter can make it")
    flags.add_argument("--root", type=path, help="the folder (default: that of registry.toml)")
    flags.add_argument("--num", type=_count, help="number of studies (default: the data set's own)")
    flags.add_argument("--seed", type=int, help="one number decides every draw (default: the data set's own)")
    flags.add_argument(
        "--workers", type=_count, help="processes (default: one per core); the files do not depend on it"
    )
    flags.add_argument("--quiet", action="store_true", help="no progress bar")
    flags.add_argument("--dry-run", action="store_true", help="say what would be made, and stop")
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the one found")
    return flags


def main(arguments: Sequence[str]) -> None:
    """Parse, find the data set, make it."""
    options = parser().parse_args(arguments)

    from rich.console import Console

    from core.discovery import discover
    from core.registry import load_registry

    registry = load_registry(options.registry)
    datasets = discover(registry.plugins.enabled, registry.plugins.modules).datasets
    source = registry.data_source(options.data, datasets)
    root: Path = options.root or source.root
    given = {name: getattr(options, name) for name in ("num", "seed", "workers") if getattr(options, name) is not None}
    if options.quiet:
        given["progress"] = False
    settings = settings_of(source.adapter, given, datasets)
    console = Console(highlight=False, soft_wrap=True)
    if options.dry_run:
        told = ", ".join(f"{name} {value}" for name, value in given.items()) or "its own settings"
        console.print(f"would make '{options.data}' in {root} with {told}", markup=False)
        return
    assert source.adapter.make is not None  # noqa: S101 - settings_of refused it otherwise
    source.adapter.make(root, **settings)
    console.print(f"'{options.data}' is in {root}", markup=False)


def settings_of(
    adapter: DatasetAdapter, given: dict[str, Any], datasets: Mapping[str, DatasetAdapter]
) -> dict[str, Any]:
    """The options for the adapter's ``make``; `UserError` where it makes nothing or takes no such option."""
    if adapter.make is None:
        able = [name for name, other in datasets.items() if other.make is not None]
        raise UserError(
            f"data set '{adapter.name}' is collected, not computed: nothing to make (computed: {listed(able)})"
        )
    takes = set(inspect.signature(adapter.make).parameters)
    refused = [f"--{'quiet' if name == 'progress' else name}" for name in given if name not in takes]
    if refused:
        raise UserError(f"data set '{adapter.name}' takes no {', '.join(refused)}; leave it out")
    return given


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(text)
    return int(text)


_count.__name__ = "count (1 or more)"

if __name__ == "__main__":
    run(main)
