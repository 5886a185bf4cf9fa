"""Plan what each round of a flow trains and what it leaves frozen, per weight set (method E2, E15).

A weight set is the weights that are trained and frozen together: ``modality.part``, or the key of a `Shared` part.
The phase ``guide`` adds two that the core makes: ``context.<modality>`` (context encoder, with the adaptation tokens f
of E12) and ``sites.<denoiser weight set>`` (the context attention in that denoiser).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from core.config.preset import Phase
from core.contract.modality import Modality, PartConfig, Shared
from core.errors import UserError
from core.flow.grammar import Edge, Flow, Item

RoundPhase = Literal["align", "guide"]
_ASSEMBLY = "prompt_assembly"
JOINT = "joint"  # the name of the joint round in stages, plans and tables

PART_OF: Mapping[Phase, str] = {
    "autoencoder": "autoencoder",
    "align": "prompt",
    "diffuse": "denoiser",
    "guide": "denoiser",
}
NEEDED: Mapping[Phase, tuple[str, ...]] = {
    "autoencoder": ("reader", "preprocess"),
    "align": ("reader", "preprocess", "prompt"),
    "diffuse": ("reader", "preprocess"),
    "guide": ("reader", "preprocess", "autoencoder", "denoiser"),
}


@dataclass(frozen=True)
class Round:
    """The training of one edge. ``index`` counts from 1, and is the ``Record.pool`` of its patients.

    A ``joint`` round, the last of phase ``guide``, trains all coupled flows of a run together on the patients of all
    pools (method F9). Its edge has every modality as an end.
    """

    index: int
    phase: Phase
    edge: Edge
    modalities: tuple[str, ...]
    trains: tuple[str, ...]
    frozen: tuple[str, ...]
    joint: bool = False


@dataclass(frozen=True)
class WeightSet:
    """Weights that one config declares, and the modalities of the run that own them, in the order of the flow."""

    key: str
    part: str
    owners: tuple[str, ...]
    config: PartConfig


def plan_rounds(
    flow: Flow, sets: Mapping[str, WeightSet], phase: RoundPhase, *, freeze: bool = True, denoisers: bool = False
) -> tuple[Round, ...]:
    """Return the rounds of a phase in the order of the flow; with ``freeze``, what an earlier round trained is frozen.

    ``sets``: the `weight_sets` of the flow's modalities. A part that a modality lacks gives none: `require_parts` makes
    that an error before training. A round may train nothing: its edge closed a cycle. ``denoisers``: a round of
    ``guide`` trains them too, with their prompt assemblies.
    """
    known: set[str] = set()
    rounds = []
    for index, edge in enumerate(flow.edges, start=1):
        present = _weights_of_phase(edge.modalities, sets, phase, denoisers=denoisers)
        frozen = tuple(key for key in present if freeze and key in known)
        trains = tuple(key for key in present if key not in frozen)
        known.update(trains)
        rounds.append(Round(index, phase, edge, edge.modalities, trains, frozen))
    return tuple(rounds)


def joint_round(
    names: Sequence[str], sets: Mapping[str, WeightSet], index: int, *, denoisers: bool = False
) -> tuple[Round, ...]:
    """Return the round that trains all coupled flows together, what earlier rounds froze too (method F9).

    None where fewer than two modalities are coupled. Other arguments are those of `plan_rounds`.
    """
    if len(names) < 2:
        return ()
    trains = _weights_of_phase(names, sets, "guide", denoisers=denoisers)
    ends = [Item(name, (name,)) for name in names]
    edge = Edge(tuple(ends[:-1]), ends[-1], JOINT)
    return (Round(index, "guide", edge, tuple(names), trains, (), joint=True),)


def trained_once(sets: Mapping[str, WeightSet], phase: Literal["autoencoder", "diffuse"]) -> tuple[WeightSet, ...]:
    """Return the weight sets that train outside of rounds, each once, on the union of its owners' data."""
    return tuple(weights for weights in sets.values() if weights.part == PART_OF[phase])


def weight_sets(names: Iterable[str], modalities: Mapping[str, Modality], preset: str) -> dict[str, WeightSet]:
    """Return every weight set of the named modalities at a preset, by key.

    `UserError` where one key stands for two unequal configs, or for two parts.
    """
    sets: dict[str, WeightSet] = {}
    for name in names:
        parts = modalities[name].parts(preset)
        for part, declared in parts.declared().items():
            if part not in PART_OF.values():
                continue
            config = declared.config if isinstance(declared, Shared) else declared
            key = parts.weight_key(name, part)
            new = WeightSet(key, part, (name,), config)
            sets[key] = _joined(sets[key], new, preset) if key in sets else new
    return sets


def _joined(old: WeightSet, new: WeightSet, preset: str) -> WeightSet:
    """Return one weight set with the owners of both; `UserError` where they disagree."""
    owners = f"modalities '{old.owners[0]}' and '{new.owners[0]}'"
    if old.part != new.part:
        raise UserError(
            f"shared key '{old.key}' stands for the {old.part} and the {new.part} of {owners} at preset '{preset}';"
            " give each part a key of its own"
        )
    if old.config != new.config:
        raise UserError(
            f"shared part '{old.key}': {owners} declare unequal configs at preset '{preset}'"
            f" ({_difference(old.config, new.config)}); weights under one key need one config: make them equal, or use"
            " two keys"
        )
    return WeightSet(old.key, old.part, old.owners + new.owners, old.config)


def _difference(first: PartConfig, second: PartConfig) -> str:
    """Return where two configs differ, in short."""
    if type(first) is not type(second):
        return f"{type(first).__name__}, {type(second).__name__}"
    fields = [name for name in type(first).model_fields if getattr(first, name) != getattr(second, name)]
    return "; ".join(f"{name} = {getattr(first, name)!r}, {getattr(second, name)!r}"[:80] for name in fields)


def _weights_of_phase(
    names: Iterable[str], sets: Mapping[str, WeightSet], phase: RoundPhase, *, denoisers: bool = False
) -> tuple[str, ...]:
    """Return the keys that a round of these modalities touches, each once, in order."""
    key_of = {
        name: weights.key for weights in sets.values() if weights.part == PART_OF[phase] for name in weights.owners
    }
    keys: list[str] = []
    for name in (name for name in names if name in key_of):
        if phase == "align":
            keys.append(key_of[name])
            continue
        keys += [f"context.{name}", f"sites.{key_of[name]}"]
        keys += [key_of[name], assembly_key(name)] if denoisers else []
    return tuple(dict.fromkeys(keys))


def assembly_key(modality: str) -> str:
    """Return the weight set of a prompt assembly, which is trained with the denoiser of the modality."""
    return f"{modality}.{_ASSEMBLY}"


def modality_of_assembly(key: str) -> str:
    """Return the modality of a prompt assembly: the inverse of `assembly_key`."""
    return key.removesuffix(f".{_ASSEMBLY}")


def missing_parts(
    flow: Flow, modalities: Mapping[str, Modality], preset: str, phase: Phase, *, augmented: bool = False
) -> tuple[str, ...]:
    """Return the parts that a phase needs and does not have, one phrase each: ``"ct: no denoiser"``.

    In ``autoencoder`` and ``diffuse`` a modality without denoiser is an input only, which is allowed. ``augmented``:
    two augmented versions of every image are compared in ``align`` (E3).
    """
    faults = []
    for name in flow.modalities:
        parts = modalities[name].parts(preset)
        needed = [*NEEDED[phase]]
        if phase in ("autoencoder", "diffuse"):
            needed.append("prompt" if parts.denoiser is None else "autoencoder")
        if phase == "align" and augmented and parts.data.kind == "grid":
            needed.append("augment")
        faults += [f"{name}: no {part}" for part in needed if part not in parts.declared()]
    return tuple(faults)


def require_parts(
    flow: Flow, modalities: Mapping[str, Modality], preset: str, phase: Phase, *, augmented: bool = False
) -> None:
    """Raise `UserError` that lists every part that is missing for a phase. Planning uses `missing_parts` instead."""
    faults = missing_parts(flow, modalities, preset, phase, augmented=augmented)
    if faults:
        raise UserError(
            f"phase {phase} of flow '{flow}' cannot run at preset '{preset}': {'; '.join(faults)}; leave these"
            f" modalities out of the flow, choose another preset, or leave phase {phase} out"
        )
