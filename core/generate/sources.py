"""Where a trained model lies: a run folder, a bundle, or a model that a plugin brings along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core.config.installation import Installation
from core.contract.discovery import Catalog
from core.contract.modality import PackagedModel
from core.engine.progress import say
from core.generate.bundle import Bundle, open_bundle


def model_folder(source: Path, models: Mapping[str, PackagedModel]) -> Path:
    """Return the folder of a model: the source itself where it exists, or that of the packaged model of this name."""
    if not source.exists() and str(source) in models:
        return models[str(source)].folder
    return source


def chosen_model(source: Path | None, installation: Installation) -> Path:
    """Return the folder of the model that a command is given, or of the default one; a packaged default is said.

    The default is the run of the default recipe and preset; see `default_model`.
    """
    registry, models = installation.registry, installation.catalog.models
    if source is not None:
        return model_folder(source, models)
    default = Path("runs") / f"{registry.default_recipe}-{registry.default_preset}"
    folder, packaged = default_model(default, models)
    if packaged:
        say(f"no run in {default} yet: the model '{packaged}' of the package is used")
    return folder


def default_model(run: Path, models: Mapping[str, PackagedModel]) -> tuple[Path, str]:
    """Return the folder of the default run, or where there is none yet that of the first packaged model.

    The second value is the name of the packaged model, and empty for the run.
    """
    if run.exists() or not models:
        return run, ""
    name = next(iter(models))
    return models[name].folder, name


def open_model(folder: Path, catalog: Catalog, device: str = "auto") -> Bundle:
    """Open the model of a folder, with the labeller of its data; `UserError` as `open_bundle` raises it."""
    bundle = open_bundle(folder, catalog.modalities, catalog.broken, device)
    known = (catalog.datasets[name] for name in bundle.run.config.data.names if name in catalog.datasets)
    bundle.findings_of = next((adapter.findings_of for adapter in known if adapter.findings_of is not None), None)
    return bundle
