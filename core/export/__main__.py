"""``python -m core.export RUN --out FOLDER``: write a trained run as a bundle that may be passed on.

The bundle holds weights (safetensors), JSON and a model card. It has no latents, no samples and no classifiers, so
that no training study can be read from it. `medweave.load` and ``core.generate --run`` take it as a run.
"""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence

from core.cli.command import Parser, path, run


def parser() -> Parser:
    """Return the parser of the flags of ``core.export``."""
    flags = Parser(prog="python -m core.export", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    flags.add_argument("run", type=path, help="the folder of a finished run")
    flags.add_argument("--out", type=path, required=True, help="the new folder of the bundle")
    flags.add_argument("--name", help="the name of the model on its card (default: that of the new folder)")
    flags.add_argument("--contact", default="", help="whom its users may ask, as the card says it")
    flags.add_argument(
        "--precision",
        choices=("int8", "float16", "float32"),
        default="float16",
        help="of the weights (default: float16)",
    )
    flags.add_argument(
        "--form",
        choices=("medweave", "monai"),
        default="medweave",
        help="a bundle of MedWeave, or one within a bundle that monai.bundle runs (default: medweave)",
    )
    flags.add_argument(
        "--licence-allows-sharing",
        action="store_true",
        help="you have the permission to pass weights on that were trained on these data",
    )
    flags.add_argument("--registry", type=path, help="registry.toml to use instead of the default one")
    return flags


def main(arguments: Sequence[str]) -> None:
    """Parse, open the run, and write the bundle."""
    options = parser().parse_args(arguments)

    from core.config.installation import load_installation
    from core.export.bundle import CARD, MODELS, Export, export_bundle
    from core.export.card import licences_of, require_shareable
    from core.generate.sources import open_model

    catalog = load_installation(options.registry).catalog
    bundle = open_model(options.run, catalog, "cpu")
    licences = licences_of(bundle.run.config.data.names, catalog.datasets)
    if not options.licence_allows_sharing:
        require_shareable(licences)
    export = Export(
        name=options.name or options.out.name,
        licences=tuple(licences),
        precision=options.precision,
        contact=options.contact,
        form=options.form,
    )
    export_bundle(bundle, options.out, export)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    card = CARD if export.form == "medweave" else f"{MODELS}/{options.out.name}/{CARD}"
    print(f"{export.name}: {size / 1e6:.1f} MB in {options.out}; read and complete {card} before you share it")


if __name__ == "__main__":
    run(main)
