"""The section of a plan that says what the run costs at least.

What a run costs at least: parameters, memory, latent cache and arithmetic. Nothing is allocated.

Parts are built on torch's meta device, so that even the shapes of the papers are counted exactly in seconds.

Parameter counts per weight set, exact and without memory: parts are built on the meta device.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from core.cli.text import columns, in_bytes, in_flops, in_time, labelled
from core.config.preset import Phase
from core.contract.build import MissingPackageError, build_part
from core.contract.modality import Modality, PartConfig, Shared
from core.errors import UserError, unknown_name
from core.flow.rounds import weight_sets
from core.flow.run import Run
from core.plan.data_counts import Stock
from core.types import Batch, Conditioning, DataSpec, LatentSpec, Prompt

BYTES_TRAINED = 4 + 4 + 8 + 4  # weight, gradient, two moments of Adam, EMA copy; all float32
BYTES_FROZEN = 4
NOT_COUNTABLE = (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, OSError, UserError)


@dataclass(frozen=True)
class Size:
    """Parameters of a weight set; ``trainable`` without those that the part itself keeps frozen."""

    total: int
    trainable: int


def build_on_meta(config: PartConfig, key: str, owners: Sequence[str] = ()) -> Any:
    """The part with shapes but no memory; errors as those of `build_part`."""
    import torch

    with torch.device("meta"):
        return build_part(config, key, owners)


def size_of(part: Any) -> Size:
    """Parameters of a built part, shared ones once."""
    parameters = list(part.parameters())
    counts = [(weight.numel(), weight.requires_grad) for weight in parameters]
    return Size(sum(count for count, _ in counts), sum(count for count, trainable in counts if trainable))


def memory_bytes(trained: Mapping[str, Size], frozen: Mapping[str, Size]) -> int:
    """Bytes of weights and optimiser, without activations."""
    moving = sum(size.trainable for size in trained.values())
    still = sum(size.total for size in [*trained.values(), *frozen.values()]) - moving
    return moving * BYTES_TRAINED + still * BYTES_FROZEN


def cache_bytes(spec: LatentSpec, num_samples: int) -> int:
    """Bytes of the latent cache: mean and log-variance in float32 (METHOD E7)."""
    return num_samples * spec.channels * prod(spec.space) * 2 * 4


def empty_batch(modality: str, spec: DataSpec) -> Batch:
    """A batch of one sample with shapes only."""
    import torch

    with torch.device("meta"):
        if spec.kind == "tokens":
            mask = torch.ones(1, *spec.space, dtype=torch.bool)
            return Batch(modality=modality, data=torch.zeros(1, *spec.space, dtype=torch.int64), mask=mask)
        return Batch(modality=modality, data=torch.zeros(1, spec.channels, *spec.space))


def prompt_on_meta(encoder: Any, batch: Batch) -> Prompt:
    """The shapes of a prompt."""
    import torch

    with torch.no_grad(), torch.device("meta"):
        return encoder(batch)


def denoiser_flops(denoiser: Any, latent: LatentSpec, prompt: Prompt) -> int:
    """Floating-point operations of one forward pass of one sample."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    conditioning = Conditioning(prompt=prompt.tokens, prompt_mask=prompt.mask, pooled=prompt.pooled)
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        denoiser(torch.zeros(1, latent.channels, *latent.space), torch.zeros(1), conditioning)
    return counter.get_total_flops()


def measured_rate(device: str = "auto") -> float:
    """Floating-point operations per second of float32 matrix products on a device, the best of a few (0.1 s).

    `UserError` where the device cannot be used.
    """
    import torch

    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    side = 1024 if (automatic if device == "auto" else device) == "cpu" else 4096
    try:
        matrix = torch.ones(side, side, device=automatic if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{device}' cannot be used: {error}; choose auto, cpu, cuda or mps") from None
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        # Reading one number back waits for the device.
        (matrix @ matrix)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


_TRAINED = ("prompt", "autoencoder", "denoiser")


def installed_weight_sets(
    modalities: Mapping[str, Modality], preset: str
) -> dict[str, tuple[PartConfig | Shared, list[str]]]:
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
    if not installed_weight_sets(modalities, preset):
        raise unknown_name("preset", preset, {name for modality in modalities.values() for name in modality.presets})
    sets = installed_weight_sets(modalities, preset)
    rows = [(key, num_parameters(config, key, owners), owners) for key, (config, owners) in sets.items()]
    lines = [f"{'weight set':<32}{'parameters':>12}  modalities"]
    lines += [f"{key:<32}{count / 1e6:>10.2f} M  {', '.join(owners)}" for key, count, owners in rows]
    return "\n".join([*lines, f"{'sum':<32}{sum(count for _, count, _ in rows) / 1e6:>10.2f} M"])


@dataclass(frozen=True)
class Built:
    """The parts of a run without memory, by weight set; ``notes``: what could not be built or counted."""

    parts: Mapping[str, Any]
    sizes: Mapping[str, Size]
    notes: list[str] = field(default_factory=list)


def describe_costs(run: Run, stocks: Sequence[Stock], rate: float | None = None) -> list[str]:
    """Lines of parameters, memory, latent cache and arithmetic."""
    built = _build(run)
    lines = ["COST (at least)", *_parameters(built), *_memory(run, built), *_cache(run, built, stocks)]
    lines += _arithmetic(run, built, stocks, rate)
    return [
        *lines,
        *(line for note in dict.fromkeys(built.notes) for line in labelled("note", note, indent=2, column=6)),
    ]


def _build(run: Run) -> Built:
    parts, sizes, notes = {}, {}, []
    for key, weights in weight_sets(run.flows.union.modalities, run.modalities, run.config.preset).items():
        try:
            parts[key] = build_on_meta(weights.config, key, weights.owners)
            sizes[key] = size_of(parts[key])
        except MissingPackageError:
            raise
        except NOT_COUNTABLE as error:
            notes.append(f"not counted: {error}")
    return Built(parts, sizes, notes)


def _parameters(built: Built) -> list[str]:
    rows = [("weight set", "parameters", "trainable")]
    rows += [(key, f"{size.total:,}", f"{size.trainable:,}") for key, size in built.sizes.items()]
    total = sum(size.total for size in built.sizes.values())
    rows.append(("all", f"{total:,}", f"{sum(size.trainable for size in built.sizes.values()):,}"))
    return columns(rows, right=frozenset({1, 2}))


def _memory(run: Run, built: Built) -> list[str]:
    """The largest need of each phase."""
    needs = {phase: [_need(built, *sets) for sets in _at_once(run, phase)] for phase in run.config.phases.run}
    text = ", ".join(f"{phase} {in_bytes(max(need))}" for phase, need in needs.items() if need)
    apart = "; guide without context encoders and their attention" if needs.get("guide") else ""
    return labelled("memory", f"{text} (without activations{apart})", indent=2, column=14)


def _need(built: Built, trained: Iterable[str], frozen: Iterable[str]) -> int:
    trained = set(trained)
    return memory_bytes(
        {key: built.sizes[key] for key in trained if key in built.sizes},
        {key: built.sizes[key] for key in set(frozen) - trained if key in built.sizes},
    )


def _at_once(run: Run, phase: Phase) -> list[tuple[list[str], list[str]]]:
    """Weight sets that are trained and frozen at the same time, one entry per round or weight set."""
    if phase == "align":
        return [([*item.trains], [*item.frozen]) for item in run.rounds(phase)]
    if phase == "guide":
        # The weights that the core makes are small beside the frozen denoisers, and are not counted.
        return [([], _keys(run, item.modalities, "denoiser")) for item in run.rounds(phase)]
    prompts = {weights.key: [source for name in weights.owners for source in run.prompt_sources(name)]
               for weights in run.once(phase)}  # fmt: skip
    return [([key], _keys(run, names, "prompt") if phase == "diffuse" else []) for key, names in prompts.items()]


def _keys(run: Run, names: Iterable[str], part: str) -> list[str]:
    return [run.parts(name).weight_key(name, part) for name in names if part in run.parts(name).declared()]


def _cache(run: Run, built: Built, stocks: Sequence[Stock]) -> list[str]:
    total, samples = 0, 0
    for name in run.outputs:
        for key in _keys(run, [name], "autoencoder"):
            if key in built.parts:
                count = sum(stock.num_samples([name]) for stock in stocks)
                samples += count
                total += cache_bytes(built.parts[key].spec, count)
    return labelled("latent cache", f"{in_bytes(total)} for {samples} samples", indent=2, column=14)


def _arithmetic(run: Run, built: Built, stocks: Sequence[Stock], rate: float | None) -> list[str]:
    """Denoisers in `diffuse` and `guide`: forward and backward (3 times forward) of every sample of every step."""
    forward = {name: flops for name in run.outputs if (flops := _forward(run, built, name)) is not None}
    work = {
        phase: _work(run, stocks, forward, phase) for phase in ("diffuse", "guide") if phase in run.config.phases.run
    }
    if not any(work.values()):
        return labelled("arithmetic", "not counted", indent=2, column=14)
    rate = rate or measured_rate(run.config.device)
    each = ", ".join(f"{phase} {in_flops(flops)}" for phase, flops in work.items())
    seconds = sum(work.values()) / rate
    text = f"{each}: at least {in_time(seconds)} (denoisers' arithmetic alone, at {in_flops(rate)}/s)"
    return labelled("arithmetic", text, indent=2, column=14)


def _forward(run: Run, built: Built, name: str) -> int | None:
    """Operations of one forward pass of a modality's denoiser; a note where they cannot be counted."""
    sources = [source for source in run.prompt_sources(name) if _keys(run, [source], "prompt")][:1]
    keys = [key for part in ("autoencoder", "denoiser") for key in _keys(run, [name], part)]
    keys += _keys(run, sources, "prompt")
    parts = [built.parts[key] for key in keys if key in built.parts]
    if len(parts) < 3:
        built.notes.append(f"{name}: arithmetic not counted, it needs an autoencoder, a denoiser and a prompt")
        return None
    autoencoder, denoiser, encoder = parts
    try:
        prompt = prompt_on_meta(encoder, empty_batch(sources[0], run.parts(sources[0]).data))
        return denoiser_flops(denoiser, autoencoder.spec, prompt)
    except NOT_COUNTABLE as error:
        built.notes.append(f"{name}: arithmetic not counted: {error}")
        return None


def _work(run: Run, stocks: Sequence[Stock], forward: Mapping[str, int], phase: Phase) -> int:
    """Operations of a phase."""
    if phase == "guide":
        return sum(_guided(run, stocks, forward, pair) for item in run.rounds("guide") for pair in item.edge.coupled)
    training = run.config.training.of(phase)

    def alone(name: str) -> int:
        kind, samples = run.parts(name).data.kind, sum(stock.num_samples([name]) for stock in stocks)
        return 3 * forward[name] * training.batch_of(kind) * training.num_steps(samples, kind)

    # A denoiser with several owners takes its steps once: the cheapest owner gives the lower bound.
    each = (map(alone, set(weights.owners) & set(forward)) for weights in run.once("diffuse"))
    return sum(min(costs, default=0) for costs in each)


def _guided(run: Run, stocks: Sequence[Stock], forward: Mapping[str, int], pair: tuple[str, str]) -> int:
    """Of a pair of a guide round; one that no study holds is left out."""
    training, samples = run.config.training.guide, sum(stock.num_pairs(pair) for stock in stocks)
    if stocks and not samples:
        return 0
    # Backward costs twice the forward pass; half of that where the denoiser's own weights are frozen.
    return 2 * sum(forward.get(name, 0) for name in pair) * training.batch * training.num_steps(samples)
