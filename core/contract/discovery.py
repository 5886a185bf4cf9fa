"""Find, load and check plugins. Built-in plugins are found as all others are."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from core.contract import hookspecs
from core.contract.build import install_command
from core.contract.modality import (
    CONTRACT,
    NAME,
    SHARED_KEY,
    DatasetAdapter,
    MetricSpec,
    Modality,
    PackagedModel,
    PartConfig,
    Parts,
    Shared,
)
from core.errors import PluginDisabledError, PluginError, UserError, join_choices, nearest, unknown_name
from core.types import DataSpec

GROUP = "medweave.plugins"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("register_"))


@dataclass(frozen=True)
class Plugin:
    """An installed plugin. Where ``error`` is set, it cannot be used and offers nothing."""

    name: str
    module: str
    distribution: str
    version: str
    enabled: bool = True
    error: PluginError | None = None

    @property
    def source(self) -> str:
        """Distribution and version, as messages show them."""
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Catalog:
    """Everything that the enabled plugins offer, by name."""

    plugins: tuple[Plugin, ...]
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    datasets: Mapping[str, DatasetAdapter] = field(default_factory=dict)
    metrics: tuple[MetricSpec, ...] = ()
    models: Mapping[str, PackagedModel] = field(default_factory=dict)
    owner: Mapping[str, str] = field(default_factory=dict)

    @property
    def broken(self) -> dict[str, PluginError]:
        """Plugin name to the reason why it cannot be used."""
        return {plugin.name: plugin.error for plugin in self.plugins if plugin.error is not None}

    @property
    def off(self) -> dict[str, PluginError]:
        """Plugin name to where it was turned off."""
        return {
            plugin.name: PluginDisabledError(f"plugin '{plugin.name}' is turned off: add it to [plugins] enabled")
            for plugin in self.plugins
            if not plugin.enabled
        }

    @property
    def unusable(self) -> dict[str, PluginError]:
        """Plugin name to the reason why it offers nothing: it is broken, or turned off."""
        return {**self.broken, **self.off}


def discover(
    enabled: Collection[str] | None = None,
    modules: Mapping[str, str] | None = None,
    *,
    reserved: Collection[str] = (),
) -> Catalog:
    """Load the plugins that are installed (or named in ``modules``) and enabled (``None``: all of them).

    ``reserved``: names that no modality may have, because they are settings of a run. A plugin that cannot be used
    stays in the catalog with its error, and the caller decides whether it is needed. Raises `UserError` where the set
    itself is wrong: two plugins or two modalities of one name, or an enabled plugin that is not installed.
    """
    plugins = {plugin.name: plugin for plugin in _installed(modules or {})}
    for name in enabled or ():
        if name not in plugins:
            raise unknown_name("plugin", name, plugins, adjective="installed")
    offers = [
        _load(plugin, reserved) if enabled is None or name in enabled else _Offer(_off(plugin))
        for name, plugin in plugins.items()
    ]
    return _merge(offers)


def _off(plugin: Plugin) -> Plugin:
    return Plugin(plugin.name, plugin.module, plugin.distribution, plugin.version, enabled=False)


def _installed(modules: Mapping[str, str]) -> Iterator[Plugin]:
    """Yield installed plugins and those of ``[plugins.modules]``, by name; two of one name are an error."""
    taken: dict[str, Plugin] = {}
    installed = [point for point in entry_points(group=GROUP) if not _only_lies_here(point)]
    for point in sorted(installed, key=lambda point: (point.name, _distribution(point))):
        plugin = Plugin(point.name, point.value, *_distribution(point))
        if plugin.name in taken:
            raise UserError(
                f"two plugins are called '{plugin.name}': {taken[plugin.name].source} and {plugin.source}; "
                "uninstall one of them"
            )
        taken[plugin.name] = plugin
    for name, module in modules.items():
        if name in taken:
            raise UserError(
                f"[plugins.modules] {name} = '{module}' has the name of the installed plugin of "
                f"{taken[name].source}; choose another name or uninstall that plugin"
            )
        taken[name] = Plugin(name, module, "registry", "")
    yield from (taken[name] for name in sorted(taken))


def _only_lies_here(point: EntryPoint) -> bool:
    """Return whether a distribution lies in the current folder and is found for that alone: then it is no plugin.

    ``python -m`` looks for modules in the current folder first. That may be somebody else's, and importing runs code.
    A folder that is on the path for another reason too, as by PYTHONPATH, stands there twice.
    """
    here = Path.cwd()
    lies_here = point.dist is not None and Path(str(point.dist.locate_file(""))).resolve() == here
    return lies_here and sum(Path(entry).resolve() == here for entry in sys.path) < 2


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("unknown distribution", "")


@dataclass
class _Offer:
    """What one plugin offers, before the plugins are merged."""

    plugin: Plugin
    modalities: Sequence[Modality] = ()
    datasets: Sequence[DatasetAdapter] = ()
    metrics: Sequence[MetricSpec] = ()
    models: Sequence[PackagedModel] = ()


def _load(plugin: Plugin, reserved: Collection[str]) -> _Offer:
    """Import a plugin, register it and call its hooks; whatever goes wrong becomes its error."""
    try:
        module = import_module(plugin.module.partition(":")[0])
        offered = {hook: list(values) for hook, values in _call_hooks(plugin.name, module).items()}
        _require_valid(offered, reserved)
    except (Exception, SystemExit) as error:
        failed = Plugin(plugin.name, plugin.module, plugin.distribution, plugin.version, error=_reason(plugin, error))
        return _Offer(failed)
    return _Offer(plugin, *(offered[hook] for hook in HOOKS))


def _call_hooks(name: str, module: ModuleType) -> dict[str, Sequence[Any]]:
    """Register one module with its own manager, and call each hook that it implements."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name)
    _require_known_hooks(manager)
    return {hook: [item for items in getattr(manager.hook, hook)() for item in items] for hook in HOOKS}


def _require_known_hooks(manager: pluggy.PluginManager) -> None:
    for caller in vars(manager.hook).values():
        if isinstance(caller, pluggy.HookCaller) and not caller.has_spec():
            raise PluginError(
                f"it implements no known hook '{caller.name}' (known: {join_choices(HOOKS)})"
                f"{nearest(caller.name, HOOKS)}"
            )
    manager.check_pending()


def _reason(plugin: Plugin, error: BaseException) -> PluginError:
    """Return name, distribution and cause in one line."""
    return PluginError(f"plugin '{plugin.name}' ({plugin.source}) cannot be used: {_cause(plugin, error)}")


def _cause(plugin: Plugin, error: BaseException) -> str:
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package and package != plugin.module.partition(".")[0]:
        command = install_command(plugin.distribution, package)
        return f"it needs the package '{package}', which is not installed; {command}"
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _require_valid(offered: Mapping[str, Sequence[Any]], reserved: Collection[str]) -> None:
    """Raise `PluginError` where what a plugin offers has a wrong type, name, contract version or preset."""
    for hook, kind in zip(HOOKS, (Modality, DatasetAdapter, MetricSpec, PackagedModel), strict=True):
        for item in offered[hook]:
            if not isinstance(item, kind):
                raise PluginError(
                    f"{hook}() returned a {type(item).__name__}; it returns a sequence of {kind.__name__}"
                )
            if not isinstance(item.name, str) or not NAME.fullmatch(item.name):
                raise PluginError(f"{hook}() offers the name '{item.name}'; a name is lower case: [a-z][a-z0-9_]*")
    for modality in offered[HOOKS[0]]:
        _require_valid_modality(modality, reserved)
    for dataset in offered[HOOKS[1]]:
        _require_valid_dataset(dataset)


def _require_valid_dataset(dataset: DatasetAdapter) -> None:
    label, names = f"data set '{dataset.name}'", dataset.modalities
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise PluginError(f"{label} needs a tuple of modality names, found {names!r}")
    if not callable(dataset.scan) or not (dataset.make is None or callable(dataset.make)):
        raise PluginError(f"{label} needs a function scan(root), and for make a function or None")


def _require_valid_modality(modality: Modality, reserved: Collection[str]) -> None:
    label = f"modality '{modality.name}'"
    if modality.contract != CONTRACT:
        newer = isinstance(modality.contract, int) and modality.contract > CONTRACT
        raise PluginError(
            f"{label} was written for contract {modality.contract}, this MedWeave has contract {CONTRACT}; "
            + (
                "update MedWeave, or install an older plugin"
                if newer
                else "update the plugin, or install an older MedWeave"
            )
        )
    if modality.name in reserved:
        raise PluginError(
            f"{label} has the name of a run option, so that --set {modality.name}.KEY would mean two things; choose"
            f" another name (taken: {join_choices(reserved)})"
        )
    if not modality.presets:
        raise PluginError(f"{label} has no preset; it needs at least one, e.g. 'tiny'")
    if not isinstance(modality.presets, Mapping) or not all(isinstance(name, str) for name in modality.presets):
        raise PluginError(f"{label}: presets are a mapping of names to Parts, found {str(modality.presets)[:60]}")
    for preset, parts in modality.presets.items():
        if not isinstance(parts, Parts):
            raise PluginError(f"{label}, preset '{preset}': found a {type(parts).__name__}; a preset is a Parts value")
        if not isinstance(parts.data, DataSpec):
            raise PluginError(f"{label}, preset '{preset}': data is a {type(parts.data).__name__}; it is a DataSpec")
        for part, config in parts.declared().items():
            _require_valid_part(f"{label}, preset '{preset}': part '{part}'", config)
        _require_valid_exports(f"{label}, preset '{preset}'", parts.exports)


def _require_valid_exports(label: str, exports: Any) -> None:
    if not isinstance(exports, Mapping) or not all(isinstance(name, str) and NAME.fullmatch(name) for name in exports):
        raise PluginError(f"{label}: exports are a mapping of lower-case names to writers, found {str(exports)[:60]}")
    for name, config in exports.items():
        if not isinstance(config, PartConfig):
            raise PluginError(f"{label}: export '{name}' is a {type(config).__name__}; it is a PartConfig")


def _require_valid_part(label: str, config: Any) -> None:
    inner = config.config if isinstance(config, Shared) else config
    if not isinstance(inner, PartConfig):
        raise PluginError(f"{label} is a {type(inner).__name__}; it is a PartConfig")
    # A key names a folder of the run.
    if isinstance(config, Shared) and not SHARED_KEY.fullmatch(config.key):
        raise PluginError(
            f"{label}: shared key '{config.key}' is not lower-case words joined by dots, e.g. image.autoencoder"
        )


def _merge(offers: Sequence[_Offer]) -> Catalog:
    modalities: dict[str, Modality] = {}
    datasets: dict[str, DatasetAdapter] = {}
    models: dict[str, PackagedModel] = {}
    owner: dict[str, str] = {}
    for offer in offers:
        kinds = (
            (modalities, offer.modalities, "modality"),
            (datasets, offer.datasets, "data set"),
            (models, offer.models, "model"),
        )
        for target, items, what in kinds:
            for item in items:
                key = f"{what} {item.name}"
                if item.name in target:
                    raise UserError(
                        f"the {what} '{item.name}' is offered by the plugins '{owner[key]}' and '{offer.plugin.name}'; "
                        "switch one off in registry.toml ([plugins] enabled)"
                    )
                target[item.name] = item  # type: ignore[assignment]
                owner[key] = offer.plugin.name
    return Catalog(
        plugins=tuple(offer.plugin for offer in offers),
        modalities=modalities,
        datasets=datasets,
        metrics=tuple(metric for offer in offers for metric in offer.metrics),
        models=models,
        owner={key.partition(" ")[2]: name for key, name in owner.items() if key.startswith("modality ")},
    )
