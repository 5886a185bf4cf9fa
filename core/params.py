"""Parameter counts per weight set, exact and without memory: parts are built on the meta device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.contract.build import build_part
from core.contract.modality import Modality, PartConfig, Shared
from core.errors import unknown

_TRAINED = ("prompt", "autoencoder", "denoiser")


def weight_sets(modalities: Mapping[str, Modality], preset: str) -> dict[str, tuple[PartConfig | Shared, list[str]]]:
    """Weight set to its config and the modalities that own it; those without the preset are left out."""
    found: dict[str, tuple[PartConfig | Shared, list[str]]] = {}
    for name, modality in modalities.items():
        if preset not in modality.presets:
            continue
        parts = modality.parts(preset)
        for part in _TRAINED:
            if part in parts.declared():
                key = parts.weight_key(name, part)
                found.setdefault(key, (parts.declared()[part], []))[1].append(name)
    return found


def num_parameters(config: PartConfig | Shared, key: str, owners: Sequence[str] = ()) -> int:
    """Parameters of the part that a config makes."""
    import torch

    with torch.device("meta"):
        module = build_part(config, key, owners)
    return sum(parameter.numel() for parameter in module.parameters())


def parameter_table(modalities: Mapping[str, Modality], preset: str) -> str:
    """One line per weight set, in millions, with its owners, and the sum."""
    if not weight_sets(modalities, preset):
        raise unknown("preset", preset, {name for modality in modalities.values() for name in modality.presets})
    sets = weight_sets(modalities, preset)
    rows = [(key, num_parameters(config, key, owners), owners) for key, (config, owners) in sets.items()]
    lines = [f"{'weight set':<32}{'parameters':>12}  modalities"]
    lines += [f"{key:<32}{count / 1e6:>10.2f} M  {', '.join(owners)}" for key, count, owners in rows]
    return "\n".join([*lines, f"{'sum':<32}{sum(count for _, count, _ in rows) / 1e6:>10.2f} M"])
