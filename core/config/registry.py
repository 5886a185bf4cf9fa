"""Read ``registry.toml`` and the ``registry.local.toml`` next to it into one frozen value."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from core.config.preset import Preset
from core.config.recipe import Recipe
from core.config.toml import Table, merged, read_toml
from core.contract.modality import NAME, DatasetAdapter
from core.errors import UserError, format_validation_error, join_choices, unknown_name

SCHEMA = 1
FILE, LOCAL = "registry.toml", "registry.local.toml"
_CHECKOUT = Path(__file__).parents[2]
PREPARED = Path("data/prepared")  # of data sets that name no other folder


class Plugins(Table):
    """``enabled``: names of plugins to use, ``None`` for all. ``modules``: name to module, of plugins not installed."""

    enabled: tuple[str, ...] | None = None
    modules: dict[str, str] = Field(default_factory=dict)


class DatasetEntry(Table):
    """Where a data set lies and which adapter reads it.

    ``deal``: every patient has every modality, so that ``data.pools`` may distribute the patients. ``split``: as the
    source says, or drawn by patient. ``reader``: modality, then fields of its reader for the files of this data set.
    ``options``: keyword arguments of its adapter's ``scan``. ``prepared``: where ``core.prepare`` stores the samples
    that training reads in place of the files; left out, ``data/prepared/NAME``.
    """

    adapter: str
    root: str
    split: Literal["official", "by_patient"] = "official"
    deal: bool = False
    reader: dict[str, dict[str, Any]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    prepared: str | None = None


class PairEntry(Table):
    """Restricts a pair to some data sets (``None``: all) or weighs it against the others."""

    datasets: tuple[str, ...] | None = None
    weight: float = Field(default=1.0, gt=0)


class Tables(Table):
    """All tables of a registry file, which has ``schema`` besides."""

    default_recipe: str
    default_preset: str
    plugins: Plugins = Plugins()
    aliases: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    recipes: dict[str, Recipe]
    presets: dict[str, Preset]
    datasets: dict[str, DatasetEntry] = Field(default_factory=dict)
    pairs: dict[str, PairEntry] = Field(default_factory=dict)

    @field_validator("aliases")
    @classmethod
    def _groups(cls, aliases: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, members in aliases.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"alias '{name}' must be lower-case letters, digits and _, and begin with a letter")
            if not members or name in members or len(set(members)) < len(members):
                raise ValueError(f"alias '{name}' must list at least one modality, each once, and not itself")
        return aliases

    @field_validator("pairs")
    @classmethod
    def _two_ends(cls, pairs: dict[str, PairEntry]) -> dict[str, PairEntry]:
        for name in pairs:
            ends = [end.strip() for end in name.split("-")]
            if len(ends) != 2 or not all(ends) or ends[0] == ends[1]:
                raise ValueError(f"pair '{name}' must be two different modalities with one '-' between them")
        return pairs


@dataclass(frozen=True)
class DataSource:
    """A data set of a run: its entry with the adapter itself and the root as a path (it may not exist).

    ``prepared``: the folder of ``core.prepare``, whether it exists or not; ``None``: the data set has none.
    """

    name: str
    adapter: DatasetAdapter
    root: Path
    entry: DatasetEntry
    prepared: Path | None = None


class Registry(Tables):
    """The merged registry. ``sources``: the files that it was read from."""

    sources: tuple[Path, ...] = ()

    def recipe(self, name: str | None = None) -> Recipe:
        """Return a recipe by name, the default one without a name; `UserError` with the choices where there is none."""
        return _look_up("recipe", name or self.default_recipe, self.recipes)

    def preset(self, name: str | None = None) -> Preset:
        """Return a preset by name, the default one without a name; `UserError` with the choices where there is none."""
        return _look_up("preset", name or self.default_preset, self.presets)

    def pair(self, first: str, second: str) -> PairEntry:
        """Return the entry of a pair of modalities, in either order; the default where there is none."""
        ends = {first, second}
        entries = (entry for name, entry in self.pairs.items() if {end.strip() for end in name.split("-")} == ends)
        return next(entries, PairEntry())

    def require_known_pairs(self, modalities: Collection[str]) -> None:
        """Raise `UserError` where ``[pairs]`` names a modality that is not installed."""
        for name in self.pairs:
            for end in (end.strip() for end in name.split("-")):
                if end not in modalities:
                    problem = unknown_name("modality", end, modalities, adjective="installed")
                    raise UserError(f"{self._where()}: pairs.{name}: {problem}")

    def data_source(self, name: str, datasets: Mapping[str, DatasetAdapter]) -> DataSource:
        """Return a data set by its name in ``[datasets]``.

        `UserError` where there is none, its adapter is not installed, or its root needs an unset variable.
        """
        entry = _look_up("data set", name, self.datasets)
        if entry.adapter not in datasets:
            problem = unknown_name("adapter", entry.adapter, datasets, adjective="installed")
            on = self.plugins.enabled
            off = "" if on is None else f"; only the plugins {join_choices(on)} are turned on ([plugins] enabled)"
            raise UserError(f"data set '{name}': {problem} (key datasets.{name}.adapter in {self._where()}){off}")
        prepared = PREPARED / name if entry.prepared is None else self._folder(name, "prepared", entry.prepared)
        return DataSource(name, datasets[entry.adapter], self._folder(name, "root", entry.root), entry, prepared)

    def _folder(self, name: str, key: str, text: str) -> Path:
        for variable in re.findall(r"\$\{(\w+)\}", text):
            if not os.environ.get(variable):
                raise UserError(
                    f"data set '{name}': {key} '{text}' needs the environment variable {variable}, which is not"
                    f" set; set it, or write the path as datasets.{name}.{key} in {LOCAL} (now in {self._where()})"
                )
        folder = re.sub(r"\$\{(\w+)\}", lambda match: os.environ[match[1]], text)
        try:
            path = Path(folder).expanduser() if folder.strip() else None
        except RuntimeError:  # ~name of nobody
            path = None
        if path is None:
            raise UserError(
                f"data set '{name}': {key} '{text}' is no folder's name; write one as datasets.{name}.{key} in"
                f" {LOCAL} (now in {self._where()})"
            )
        return path

    def _where(self) -> str:
        return " + ".join(map(str, self.sources)) or FILE


def _look_up(what: str, name: str, choices: Mapping[str, Any]) -> Any:
    """Return the choice of that name; `UserError` with all of them where there is none."""
    if name not in choices:
        raise unknown_name(what, name, choices)
    return choices[name]


def load_registry(path: Path | None = None) -> Registry:
    """Read the registry: ``path``, else ``./registry.toml``, else the shipped copy; merge the local file next to it.

    All faults come in one `UserError`: unknown keys with the nearest known one, wrong values with their dotted path.
    A file that was only found in the current folder may name no modules: to load them runs code, and the folder may be
    somebody else's.
    """
    first = _registry_file(path)
    registry = _read(tuple(file for file in (first, first.with_name(LOCAL)) if file.is_file()))
    if path is None and registry.plugins.modules and first.parent != _CHECKOUT:
        modules = ", ".join(sorted(registry.plugins.modules.values()))
        raise UserError(
            f"{first}: its [plugins.modules] would run code ({modules}); if you trust this folder, name the file:"
            f" --registry {FILE}"
        )
    return registry


def _read(sources: tuple[Path, ...]) -> Registry:
    """Read and check the merged files, later ones on top."""
    tables: dict[str, Any] = {}
    for file in sources:
        tables = merged(tables, read_toml(file))
    where = " + ".join(map(str, sources))
    if tables.pop("schema", None) != SCHEMA:
        raise UserError(f"{where}: schema must be {SCHEMA}; write 'schema = {SCHEMA}' at the top, or update MedWeave")
    try:
        known = Tables.model_validate(tables)
    except ValidationError as error:
        raise format_validation_error(error, Tables, where) from None
    _require_names(known, where)
    return Registry(**dict(known), sources=sources)


def _require_names(known: Tables, where: str) -> None:
    """Raise `UserError` where the registry names a recipe, preset or data set that it does not have."""
    named = [("default_recipe", "recipe", known.default_recipe, known.recipes)]
    named += [("default_preset", "preset", known.default_preset, known.presets)]
    for pair, entry in known.pairs.items():
        named += [(f"pairs.{pair}.datasets", "data set", name, known.datasets) for name in entry.datasets or ()]
    faults = [
        f"{key}: {unknown_name(what, name, choices)}" for key, what, name, choices in named if name not in choices
    ]
    if faults:
        raise UserError(f"{where}: {'; '.join(faults)}")


def _registry_file(path: Path | None) -> Path:
    """Return the registry file to read."""
    if path is not None:
        if not path.is_file():
            raise UserError(f"--registry {path}: no such file; give a TOML file, or leave it out to use ./{FILE}")
        return path
    here = Path.cwd() / FILE
    return here if here.is_file() else _shipped()


def _shipped() -> Path:
    """Return the file of the checkout, or the copy in the wheel."""
    checkout = _CHECKOUT / FILE
    if checkout.is_file():
        return checkout
    try:
        shipped = Path(str(files("medweave") / FILE))
    except ModuleNotFoundError:
        shipped = None
    if shipped is None or not shipped.is_file():
        raise UserError(f"no {FILE} in {Path.cwd()} and none installed; name one with --registry FILE")
    return shipped
