"""What the switches of a recipe change in the parts that modalities declare: their settings, and who shares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from core.config.run_config import RunConfig
from core.contract.modality import Modality, PartConfig, Parts, Shared

_KIND = {2: "image", 3: "volume"}


def with_recipe(modalities: Mapping[str, Modality], config: RunConfig) -> dict[str, Modality]:
    """Return the modalities with their parts as the recipe of a run has them, at the preset of the run.

    Every part sees the switches (`core.contract.modality.PartConfig.for_recipe`). With ``diffuse.denoisers`` "shared",
    one denoiser serves all images whose denoisers are declared alike, and one all such volumes (MediSyn).
    """
    switches = {"align.image_encoder": config.align.image_encoder, "prompt.form": config.prompt.form}
    changed = {name: _at(modality, config.preset, switches) for name, modality in modalities.items()}
    return _with_shared_denoisers(changed, config.preset) if config.diffuse.denoisers == "shared" else changed


def _at(modality: Modality, preset: str, switches: Mapping[str, str]) -> Modality:
    if preset not in modality.presets:
        return modality
    parts = modality.parts(preset)
    new = {part: _for_recipe(declared, switches) for part, declared in parts.declared().items()}
    return _with_parts(modality, preset, replace(parts, **new))


def _for_recipe(declared: PartConfig | Shared, switches: Mapping[str, str]) -> PartConfig | Shared:
    if isinstance(declared, Shared):
        return Shared(declared.key, declared.config.for_recipe(switches))
    return declared.for_recipe(switches)


def _with_shared_denoisers(modalities: Mapping[str, Modality], preset: str) -> dict[str, Modality]:
    """Return the modalities with one denoiser for all images, and one for all volumes, that declare equal ones."""
    declared = {name: _denoiser(modality, preset) for name, modality in modalities.items()}
    shared: dict[str, Modality] = {}
    for dims, kind in _KIND.items():
        of_kind = {
            name: config
            for name, config in declared.items()
            if config is not None and len(modalities[name].parts(preset).data.space) == dims
        }
        if not of_kind:
            continue
        most_common = Counter(map(repr, of_kind.values())).most_common(1)[0][0]
        for name, config in of_kind.items():
            if repr(config) == most_common:
                parts = replace(modalities[name].parts(preset), denoiser=Shared(f"{kind}.denoiser", config))
                shared[name] = _with_parts(modalities[name], preset, parts)
    return {**modalities, **shared}


def _denoiser(modality: Modality, preset: str) -> PartConfig | None:
    """Return the declared denoiser of data on a grid."""
    if preset not in modality.presets:
        return None
    parts = modality.parts(preset)
    config = parts.denoiser.config if isinstance(parts.denoiser, Shared) else parts.denoiser
    return config if parts.data.kind == "grid" else None


def _with_parts(modality: Modality, preset: str, parts: Parts) -> Modality:
    return replace(modality, presets={**modality.presets, preset: parts})
