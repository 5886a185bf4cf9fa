"""What ``--plan`` prints: rounds, data, what is reachable, and what the run costs at least."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from core.cli.text import columns, labelled
from core.config.preset import Phase
from core.config.registry import Registry
from core.contract.modality import DatasetAdapter
from core.flow.grammar import reachable_pairs
from core.flow.rounds import Round, WeightSet, missing_parts
from core.flow.run import Run
from core.plan.costs import describe_costs
from core.plan.data_counts import DataCounts, count_data


def describe_plan(
    run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter], *, rate: float | None = None
) -> str:
    """Return the plan as plain text of at most 100 columns, in stable order; nothing is trained or written.

    Scans the training split of the run's data sets and builds the parts without memory. ``rate``: floating-point
    operations per second, measured on the device of the run where it is not given. `UserError` where a part needs a
    package that is not installed.
    """
    counts = count_data(run, registry, datasets)
    sections = [
        _summary(run, registry),
        _data(run, counts),
        *(_phase(run, registry, counts, phase) for phase in run.config.phases.run),
        _reachable(run),
        describe_costs(run, counts, rate),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _summary(run: Run, registry: Registry) -> list[str]:
    """Return what was chosen, and the files that say so."""
    config = run.config
    recipe, preset = registry.recipe(config.recipe), config.training
    rows = {
        "recipe": f"{config.recipe}  ({recipe.title})" if recipe.title else config.recipe,
        "preset": f"{config.preset}  ({preset.title})" if preset.title else config.preset,
        "registry": ", ".join(map(str, registry.sources)),
        "flow": str(run.flows.align),
        "guide flow": "" if run.flows.guide is run.flows.align else str(run.flows.guide),
        "phases": ", ".join(config.phases.run),
        "data": ", ".join(config.data.names) or "none named: give --data",
        "pools": config.data.pools,
        "run folder": str(config.run),
    }
    lines = [line for label, text in rows.items() if text for line in labelled(label, text)]
    return ["MedWeave plan", *lines]


def _data(run: Run, counts: Sequence[DataCounts]) -> list[str]:
    """Return what each data set holds, and which modality has nothing."""
    lines = ["DATA (training split)"]
    width = max([len(dataset.name) for dataset in counts], default=0) + 2
    for dataset in counts:
        lines += labelled(dataset.name, _holdings(run, dataset), indent=2, column=width)
    empty = [name for name in run.flows.union.modalities if not _num_samples(counts, (name,))]
    return [*lines, *(labelled("no data", f"for {', '.join(empty)}", indent=2, column=width + 2) if empty else [])]


def _holdings(run: Run, dataset: DataCounts) -> str:
    if dataset.problem:
        return f"no data: {dataset.problem}"
    samples = {name: dataset.num_samples((name,)) for name in run.flows.union.modalities}
    seen = ", ".join(f"{name} {number}" for name, number in samples.items() if number) or "no modality of the run"
    patients = len({record.patient for record in dataset.records})
    alone = "".join(f", {count} of them {name} alone" for name, count in _alone(run, dataset).items())
    return f"{len(dataset.records)} studies of {patients} patients{alone}, in {dataset.root}; training sees {seen}"


def _alone(run: Run, dataset: DataCounts) -> Counter[str]:
    """Count the studies with one modality of the run and no other, such as reports without an image."""
    present = [[name for name in run.flows.union.modalities if record.has(name)] for record in dataset.records]
    return Counter(names[0] for names in present if len(names) == 1 < len(run.flows.union.modalities))


def _phase(run: Run, registry: Registry, counts: Sequence[DataCounts], phase: Phase) -> list[str]:
    """Return one phase: its rounds, or its weight sets where each trains once."""
    augmented = run.config.align.visual_invariance
    missing = missing_parts(run.flows.of(phase), run.modalities, run.config.preset, phase, augmented=augmented)
    notes = [f"  {fault} at preset '{run.config.preset}'" for fault in missing]
    if phase == "align" or phase == "guide":
        rounds = run.rounds[phase]
        lines = [line for item in rounds for line in _round(run, registry, counts, item)]
        return [f"PHASE {phase}: {_count(len(rounds), 'round')}", *lines, *notes]
    rows = [_once(run, counts, weights, phase) for weights in run.trained_once(phase)]
    return [f"PHASE {phase}: each weight set once, on all its data", *(columns(rows) if rows else []), *notes]


def _once(run: Run, counts: Sequence[DataCounts], weights: WeightSet, phase: Phase) -> tuple[str, str, str]:
    """Return weight set, number of samples, and the modalities that own it."""
    owners = [name for name in weights.owners if name in run.outputs]
    samples = _num_samples(counts, owners)
    owned = [_prompted(run, name) if phase == "diffuse" else name for name in owners]
    return weights.key, f"{samples} samples" if samples else "no data", "; ".join(owned)


def _prompted(run: Run, name: str) -> str:
    return f"{name} prompted by {', '.join(run.prompt_sources(name)) or 'nothing'}"


def _round(run: Run, registry: Registry, counts: Sequence[DataCounts], item: Round) -> Iterator[str]:
    """Yield the lines of one round: weights, then the studies that hold both ends of each pair."""
    yield f"  {item.index}  {item.edge.text}"
    yield from labelled("trains", ", ".join(item.trains) or "nothing: all of it is frozen", indent=5, column=8)
    yield from labelled("frozen", ", ".join(item.frozen) or "nothing", indent=5, column=8)
    rows = list(_pairs(registry, counts, item))
    for label, row in zip(["pairs"] + [""] * len(rows), columns(rows, indent=0), strict=False):
        yield f"     {label:8}{row}"


def _pairs(registry: Registry, counts: Sequence[DataCounts], item: Round) -> Iterator[tuple[str, str]]:
    """Yield each pair of a round with its studies per data set; with several sources, the whole batch too."""
    edge = item.edge
    together = [edge.modalities] if len(edge.sources) > 1 else []
    for group in [*(edge.coupled if item.phase == "guide" else edge.pairs), *together]:
        allowed = registry.pair(*group).datasets if len(group) == 2 else None
        used = [dataset for dataset in counts if allowed is None or dataset.name in allowed]
        studies = {dataset.name: dataset.num_pairs(group) for dataset in used}
        text = ", ".join(f"{name} {number}" for name, number in studies.items() if number)
        yield " + ".join(group), f"{sum(studies.values())} studies ({text})" if text else "no data"


def _reachable(run: Run) -> list[str]:
    """Return the pairs that no round joins."""
    pairs = reachable_pairs(run.flows.union)
    text = ", ".join(f"{first} + {second}" for first, second in pairs) or "none"
    return ["REACHABLE without ever having been paired", *labelled("", text, indent=2, column=0)]


def _num_samples(counts: Sequence[DataCounts], names: Sequence[str]) -> int:
    return sum(dataset.num_samples(names) for dataset in counts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
