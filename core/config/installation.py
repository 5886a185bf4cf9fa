"""What a command works with: the registry, and what the plugins offer that it enables."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from core.config.registry import Registry, load_registry
from core.config.run_config import Flags, RunConfig, resolve
from core.contract.discovery import Catalog, discover
from core.errors import MedWeaveWarning


@dataclass(frozen=True)
class Installation:
    """The registry and the catalog of the plugins that it enables."""

    registry: Registry
    catalog: Catalog

    def resolve(self, flags: Flags) -> RunConfig:
        """Return the configuration of a run that these flags choose; `UserError` for a wrong setting."""
        return resolve(self.registry, self.catalog.modalities, flags)

    def warn_of_broken_plugins(self) -> None:
        """Warn once of each plugin that failed to load. Call it where the command can do without them."""
        for error in self.catalog.broken.values():
            warnings.warn(MedWeaveWarning(str(error)), stacklevel=2)


def load_installation(registry: Path | None = None) -> Installation:
    """Read the registry (``None``: the one that is found) and load the plugins; `UserError` where either is wrong."""
    tables = load_registry(registry)
    return Installation(tables, load_catalog(tables))


def load_catalog(registry: Registry) -> Catalog:
    """Return what the enabled plugins offer. A modality may not have the name of a setting of a run."""
    return discover(registry.plugins.enabled, registry.plugins.modules, reserved=RunConfig.model_fields)
