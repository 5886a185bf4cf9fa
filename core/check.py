"""``python -m core.check [NAME]``: what is installed, and whether a modality keeps the contract."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.cli.command import Parser, path, run
from core.cli.text import columns, labelled
from core.errors import UserError, unknown_name

if TYPE_CHECKING:
    from core.contract.discovery import Catalog


def parser() -> Parser:
    """The flags of ``core.check``."""
    flags = Parser(prog="python -m core.check", description=__doc__)
    flags.add_argument("name", nargs="?", help="a modality or a plugin; without it everything installed is listed")
    flags.add_argument("--preset", default="tiny", help="the sizes to build (default: tiny)")
    flags.add_argument("--params", action="store_true", help="print the number of parameters of every weight set")
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the one found")
    return flags


def main(arguments: Sequence[str]) -> None:
    """List, count or check; exit 1 when a law is broken."""
    options = parser().parse_args(arguments)

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
        kept = [_checked(catalog, name, options.preset) for name in names]
        if not all(kept):
            sys.exit(1)


def listing(catalog: Catalog, sources: Sequence[str]) -> str:
    """Plugins, modalities and data sets as an aligned table."""
    lines = [f"registry   {', '.join(sources)}", "", "plugins"]
    for plugin in catalog.plugins:
        state = str(plugin.error) if plugin.error else "" if plugin.enabled else "off in the registry"
        lines.append(f"  {plugin.name:<14}{plugin.source:<28}{state}".rstrip())
    modalities = sorted(catalog.modalities.items())
    rows = [(name, catalog.owner[name], ", ".join(one.presets), one.title) for name, one in modalities]
    lines += ["", *columns([("modality", "plugin", "presets", "title"), *rows])]
    column = 2 + max(map(len, ("data set", *catalog.datasets)))
    lines += ["", *labelled("data set", "modalities (licence)", indent=2, column=column)]
    for name, dataset in sorted(catalog.datasets.items()):
        told = f"{', '.join(dataset.modalities) or 'as its table says'} ({dataset.licence})"
        lines += labelled(name, told, indent=2, column=column)
    return "\n".join(lines)


def _chosen(catalog: Catalog, name: str) -> list[str]:
    """The modality of that name, or all modalities of the plugin of that name."""
    if name in catalog.modalities:
        return [name]
    for plugin in catalog.plugins:
        if plugin.name == name:
            if plugin.error is not None:
                raise plugin.error
            if not plugin.enabled:
                raise UserError(f"plugin '{name}' is off: add it to [plugins] enabled in registry.toml")
            owned = [modality for modality, owner in catalog.owner.items() if owner == name]
            if not owned:
                raise UserError(f"plugin '{name}' offers no modality: there is nothing to check against the contract")
            return owned
    raise unknown_name("modality or plugin", name, [*catalog.modalities, *catalog.broken], adjective="installed")


def _checked(catalog: Catalog, name: str, preset: str) -> bool:
    """Run the laws on one modality, print a line for each, and say whether all hold."""
    from core.testing.kit import check_modality

    catalog.modalities[name].parts(preset)  # a wrong preset is an error before the first law
    outcomes = check_modality(catalog.modalities[name], preset)
    width = max(len(outcome.law) for outcome in outcomes)
    print(f"{name} at preset {preset}")
    for outcome in outcomes:
        print(f"  {outcome.status:<9}{outcome.law:<{width}}  {outcome.message}".rstrip())
    counts = {
        status: sum(outcome.status == status for outcome in outcomes) for status in ("passed", "failed", "skipped")
    }
    print("  " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return counts["failed"] == 0


if __name__ == "__main__":
    run(main)
