"""``python -m core.check [NAME]``: list what is installed, or run the contract checks on a modality."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.command import Parser, path, run
from core.cli.text import columns, labelled
from core.errors import UserError, unknown_name

if TYPE_CHECKING:
    from core.contract.discovery import Catalog


def parser() -> Parser:
    """The flags of ``core.check``."""
    flags = Parser(prog="python -m core.check", description=__doc__)
    flags.add_argument(
        "name",
        nargs="?",
        help="a modality or a plugin (left out: list what is installed); with --made-by a file",
    )
    flags.add_argument("--preset", default="tiny", help="the sizes to build (default: tiny)")
    flags.add_argument("--params", action="store_true", help="print the number of parameters of every weight set")
    flags.add_argument(
        "--made-by",
        type=path,
        metavar="FOLDER",
        help="say whether NAME, a file, was generated into this folder; exit code 1 where it was not",
    )
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the default one")
    return flags


def main(arguments: Sequence[str]) -> None:
    """List, count or check; exit 1 when a check fails."""
    options = parser().parse_args(arguments)
    if options.made_by is not None:
        _say_origin(options.name, options.made_by)
        return

    from core.config.installation import load_installation

    installation = load_installation(options.registry)
    registry, catalog = installation.registry, installation.catalog
    if options.params:
        from core.plan.costs import parameter_table

        names = catalog.modalities if options.name is None else _chosen(catalog, options.name)
        print(parameter_table({name: catalog.modalities[name] for name in names}, options.preset))
    elif options.name is None:
        print(listing(catalog, [str(source) for source in registry.sources]))
    else:
        names = _chosen(catalog, options.name)
        passed = [_passes(catalog, name, options.preset) for name in names]
        if not all(passed):
            sys.exit(1)


def _say_origin(file: str | None, folder: Path) -> None:
    """Print which generated file this one is a copy of; exit 1 where it is none."""
    from core.generate.output.folder import origin_of

    if file is None:
        raise UserError(f"--made-by {folder}: name the file too: core.check FILE --made-by {folder}")
    origin = origin_of(Path(file), folder)
    print(f"{file}: {f'generated as {origin}' if origin else f'not among the studies of {folder}'}")
    if not origin:
        sys.exit(1)


def listing(catalog: Catalog, sources: Sequence[str]) -> str:
    """Return plugins, modalities and data sets as an aligned table."""
    lines = [f"registry   {', '.join(sources)}", "", "plugins"]
    for plugin in catalog.plugins:
        state = str(plugin.error) if plugin.error else "" if plugin.enabled else "off in the registry"
        lines.append(f"  {plugin.name:<14}{plugin.source:<28}{state}".rstrip())
    modalities = sorted(catalog.modalities.items())
    rows = [(name, catalog.owner[name], ", ".join(modality.presets), modality.title) for name, modality in modalities]
    lines += ["", *columns([("modality", "plugin", "presets", "title"), *rows])]
    column = 2 + max(map(len, ("data set", *catalog.datasets)))
    lines += ["", *labelled("data set", "modalities (licence)", indent=2, column=column)]
    for name, dataset in sorted(catalog.datasets.items()):
        text = f"{', '.join(dataset.modalities) or 'as its table says'} ({dataset.licence})"
        lines += labelled(name, text, indent=2, column=column)
    return "\n".join(lines)


def _chosen(catalog: Catalog, name: str) -> list[str]:
    """Return the modality of that name, or all modalities of the plugin of that name."""
    if name in catalog.modalities:
        return [name]
    for plugin in catalog.plugins:
        if plugin.name == name:
            if plugin.error is not None:
                raise plugin.error
            if not plugin.enabled:
                raise UserError(f"plugin '{name}' is off: add it to [plugins] enabled in registry.toml")
            offered = [modality for modality, owner in catalog.owner.items() if owner == name]
            if not offered:
                raise UserError(f"plugin '{name}' offers no modality: there is nothing to check against the contract")
            return offered
    raise unknown_name("modality or plugin", name, [*catalog.modalities, *catalog.broken], adjective="installed")


def _passes(catalog: Catalog, name: str, preset: str) -> bool:
    """Run the checks on one modality, print a line for each, and say whether all hold."""
    from core.testing.kit import check_modality

    catalog.modalities[name].parts(preset)  # a wrong preset is an error before the first check
    outcomes = check_modality(catalog.modalities[name], preset)
    width = max(len(outcome.check) for outcome in outcomes)
    print(f"{name} at preset {preset}")
    for outcome in outcomes:
        print(f"  {outcome.status:<9}{outcome.check:<{width}}  {outcome.message}".rstrip())
    counts = {
        status: sum(outcome.status == status for outcome in outcomes) for status in ("passed", "failed", "skipped")
    }
    print("  " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return counts["failed"] == 0


if __name__ == "__main__":
    run(main)
