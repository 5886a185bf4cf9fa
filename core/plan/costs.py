"""What a run costs at least: parameters, memory, latent cache and arithmetic.

Parts are built on torch's meta device: even the shapes of the papers are counted exactly, in seconds, without memory.
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
from core.contract.modality import Modality, PartConfig, pooled_width
from core.errors import UserError, unknown_name
from core.flow.rounds import Round, weight_sets
from core.flow.run import Run
from core.plan.data_counts import DataCounts
from core.types import Batch, Conditioning, DataSpec, LatentSpec, Prompt

BYTES_TRAINED = 4 + 4 + 8 + 4  # weight, gradient, two moments of Adam, EMA copy; all float32
BYTES_FROZEN = 4
NOT_COUNTABLE = (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, OSError, UserError)


def describe_costs(run: Run, counts: Sequence[DataCounts], rate: float | None = None) -> list[str]:
    """Return the lines of parameters, memory, latent cache and arithmetic.

    ``counts``: what the data sets of the run hold. ``rate``: operations per second, measured where it is not given.
    """
    built = _build(run)
    lines = ["COST (at least)", *_parameters(built), *_memory(run, built), *_cache(run, built, counts)]
    lines += _arithmetic(run, built, counts, rate)
    return [
        *lines,
        *(line for note in dict.fromkeys(built.notes) for line in labelled("note", note, indent=2, column=6)),
    ]


def parameter_table(modalities: Mapping[str, Modality], preset: str) -> str:
    """Return one line per weight set, in millions, with its owners, and the sum.

    Modalities without the preset are left out; `UserError` where none has it, or a part cannot be built.
    """
    sets = weight_sets([name for name in modalities if preset in modalities[name].presets], modalities, preset)
    if not sets:
        raise unknown_name("preset", preset, {name for modality in modalities.values() for name in modality.presets})
    rows = [
        (weights, size_of(build_on_meta(weights.config, key, weights.owners)).total) for key, weights in sets.items()
    ]
    lines = [f"{'weight set':<32}{'parameters':>12}  modalities"]
    lines += [f"{weights.key:<32}{count / 1e6:>10.2f} M  {', '.join(weights.owners)}" for weights, count in rows]
    return "\n".join([*lines, f"{'sum':<32}{sum(count for _, count in rows) / 1e6:>10.2f} M"])


def build_on_meta(config: PartConfig, key: str, owners: Sequence[str] = ()) -> Any:
    """Build a part that has shapes but no memory; errors as those of `build_part`."""
    import torch

    with torch.device("meta"):
        return build_part(config, key, owners)


@dataclass(frozen=True)
class Size:
    """Parameters of a weight set; ``trainable`` without those that the part itself keeps frozen."""

    total: int
    trainable: int


@dataclass(frozen=True)
class Built:
    """The parts of a run without memory, by weight set; ``notes``: what could not be built or counted."""

    parts: Mapping[str, Any]
    sizes: Mapping[str, Size]
    notes: list[str] = field(default_factory=list)


def _build(run: Run) -> Built:
    parts, sizes, notes = {}, {}, []
    for key, weights in run.weight_sets.items():
        try:
            parts[key] = build_on_meta(weights.config, key, weights.owners)
            sizes[key] = size_of(parts[key])
        except MissingPackageError:
            raise
        except NOT_COUNTABLE as error:
            notes.append(f"not counted: {error}")
    return Built(parts, sizes, notes)


def size_of(part: Any) -> Size:
    """Count the parameters of a built part, shared ones once."""
    parameters = [(weight.numel(), weight.requires_grad) for weight in part.parameters()]
    return Size(sum(count for count, _ in parameters), sum(count for count, trainable in parameters if trainable))


def _parameters(built: Built) -> list[str]:
    rows = [("weight set", "parameters", "trainable")]
    rows += [(key, f"{size.total:,}", f"{size.trainable:,}") for key, size in built.sizes.items()]
    total = sum(size.total for size in built.sizes.values())
    rows.append(("all", f"{total:,}", f"{sum(size.trainable for size in built.sizes.values()):,}"))
    return columns(rows, right=frozenset({1, 2}))


def _memory(run: Run, built: Built) -> list[str]:
    """Return the largest need of each phase."""
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


def memory_bytes(trained: Mapping[str, Size], frozen: Mapping[str, Size]) -> int:
    """Return the bytes of weights and optimiser, without activations."""
    moving = sum(size.trainable for size in trained.values())
    still = sum(size.total for size in [*trained.values(), *frozen.values()]) - moving
    return moving * BYTES_TRAINED + still * BYTES_FROZEN


def _at_once(run: Run, phase: Phase) -> list[tuple[list[str], list[str]]]:
    """Return the weight sets that are trained and frozen at the same time, one entry per round or weight set."""
    if phase == "align":
        return [([*item.trains], [*item.frozen]) for item in run.rounds[phase]]
    if phase == "guide":
        # The weights that the core makes are small beside the denoisers, and are not counted.
        return [([*item.trains], _keys(run, item.modalities, "denoiser")) for item in run.rounds[phase]]
    prompts = {weights.key: [source for name in weights.owners for source in run.prompt_sources(name)]
               for weights in run.trained_once(phase)}  # fmt: skip
    return [([key], _keys(run, names, "prompt") if phase == "diffuse" else []) for key, names in prompts.items()]


def _keys(run: Run, names: Iterable[str], part: str) -> list[str]:
    return [run.parts(name).weight_key(name, part) for name in names if part in run.parts(name).declared()]


def _cache(run: Run, built: Built, counts: Sequence[DataCounts]) -> list[str]:
    total, samples = 0, 0
    for name in run.outputs:
        for key in _keys(run, [name], "autoencoder"):
            if key in built.parts:
                number = _num_samples(counts, name)
                samples += number
                total += cache_bytes(built.parts[key].spec, number)
    return labelled("latent cache", f"{in_bytes(total)} for {samples} samples", indent=2, column=14)


def cache_bytes(spec: LatentSpec, num_samples: int) -> int:
    """Return the bytes of the latent cache: mean and log-variance in float32 (method E7)."""
    return num_samples * spec.channels * prod(spec.space) * 2 * 4


def _arithmetic(run: Run, built: Built, counts: Sequence[DataCounts], rate: float | None) -> list[str]:
    """Count the denoisers' work in `diffuse` and `guide`: forward and backward (3 times forward) of every step."""
    forward = {name: flops for name in run.outputs if (flops := _forward(run, built, name)) is not None}
    work = {
        phase: _work(run, counts, forward, phase) for phase in ("diffuse", "guide") if phase in run.config.phases.run
    }
    if not any(work.values()):
        return labelled("arithmetic", "not counted", indent=2, column=14)
    rate = rate or measured_rate(run.config.device)
    each = ", ".join(f"{phase} {in_flops(flops)}" for phase, flops in work.items())
    seconds = sum(work.values()) / rate
    text = f"{each}: at least {in_time(seconds)} (denoisers' arithmetic alone, at {in_flops(rate)}/s)"
    return labelled("arithmetic", text, indent=2, column=14)


def _forward(run: Run, built: Built, name: str) -> int | None:
    """Count one forward pass of a modality's denoiser; a note where that is not possible."""
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


def _work(run: Run, counts: Sequence[DataCounts], forward: Mapping[str, int], phase: Phase) -> int:
    """Return the operations of a phase."""
    if phase == "guide":
        return sum(_work_of_round(run, counts, forward, item) for item in run.rounds["guide"])
    training = run.config.training.of(phase)

    def alone(name: str) -> int:
        kind = run.parts(name).data.kind
        return 3 * forward[name] * training.batch_of(kind) * training.num_steps(_num_samples(counts, name), kind)

    # A denoiser with several owners takes its steps once: the cheapest owner gives the lower bound.
    each = (map(alone, set(weights.owners) & set(forward)) for weights in run.trained_once("diffuse"))
    return sum(min(costs, default=0) for costs in each)


def _work_of_round(run: Run, counts: Sequence[DataCounts], forward: Mapping[str, int], item: Round) -> int:
    """Return the operations of a guide round: of its pairs in turn, or of whole studies. No study, no work."""
    guide, training = run.config.guide, run.config.training.of("joint" if item.joint else "guide")
    whole = guide.studies == "whole"
    # Backward costs twice the forward pass; half of that where the denoiser's weights are frozen.
    passes = 3 if guide.trains == "all" else 2

    def work(names: Sequence[str]) -> int:
        samples = sum(dataset.num_pairs(names) for dataset in counts)
        steps = 0 if counts and not samples else training.num_steps(samples)
        return passes * sum(forward.get(name, 0) for name in names) * training.batch * steps

    # A step on whole studies has at least the cheapest pair, and at most all of them (method F9).
    return min(map(work, item.edge.coupled)) if whole else sum(map(work, item.edge.coupled))


def _num_samples(counts: Sequence[DataCounts], name: str) -> int:
    return sum(dataset.num_samples([name]) for dataset in counts)


def empty_batch(modality: str, spec: DataSpec) -> Batch:
    """Return a batch of one sample with shapes only."""
    import torch

    with torch.device("meta"):
        if spec.kind == "tokens":
            mask = torch.ones(1, *spec.space, dtype=torch.bool)
            return Batch(modality=modality, data=torch.zeros(1, *spec.space, dtype=torch.int64), mask=mask)
        return Batch(modality=modality, data=torch.zeros(1, spec.channels, *spec.space))


def prompt_on_meta(encoder: Any, batch: Batch) -> Prompt:
    """Return a prompt with shapes only."""
    import torch

    with torch.no_grad(), torch.device("meta"):
        return encoder(batch)


def denoiser_flops(denoiser: Any, latent: LatentSpec, prompt: Prompt) -> int:
    """Count the floating-point operations of one forward pass of one sample."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    tokens = torch.zeros(*prompt.mask.shape, denoiser.prompt_width, device="meta")
    width = pooled_width(denoiser)
    pooled = None if width is None else torch.zeros(1, width, device="meta")
    conditioning = Conditioning(prompt=tokens, prompt_mask=prompt.mask, pooled=pooled)
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        denoiser(torch.zeros(1, latent.channels, *latent.space), torch.zeros(1), conditioning)
    return counter.get_total_flops()


def measured_rate(device: str = "auto") -> float:
    """Measure floating-point operations per second of float32 matrix products, the best of a few (0.1 s).

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
