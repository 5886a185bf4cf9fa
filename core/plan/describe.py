"""What ``--plan`` prints: rounds, data, what is reachable, and what the run costs at least (DESIGN 5)."""

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
from core.plan.data_counts import Stock, take_stock


def describe_plan(
    run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter], *, rate: float | None = None
) -> str:
    """The plan as plain text of at most 100 columns, in stable order; nothing is trained or written.

    Scans the training split of the run's data sets and builds the parts without memory. ``rate``: floating-point
    operations per second, measured on the device of the run where it is not given. `UserError` where a part needs a
    package that is not installed.
    """
    stocks = take_stock(run, registry, datasets)
    sections = [
        _summary(run, registry),
        _data(run, stocks),
        *(_phase(run, registry, stocks, phase) for phase in run.config.phases.run),
        _reachable(run),
        describe_costs(run, stocks, rate),
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _summary(run: Run, registry: Registry) -> list[str]:
    """What was chosen, and where it was found."""
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


def _data(run: Run, stocks: Sequence[Stock]) -> list[str]:
    """What the data sets hold, and which modality has nothing."""
    lines = ["DATA (training split)"]
    width = max([len(stock.name) for stock in stocks], default=0) + 2
    for stock in stocks:
        lines += labelled(stock.name, _holdings(run, stock), indent=2, column=width)
    empty = [name for name in run.flows.union.modalities if not _num_samples(stocks, (name,))]
    return [*lines, *(labelled("no data", f"for {', '.join(empty)}", indent=2, column=width + 2) if empty else [])]


def _holdings(run: Run, stock: Stock) -> str:
    if stock.problem:
        return f"no data: {stock.problem}"
    counts = {name: stock.num_samples((name,)) for name in run.flows.union.modalities}
    held = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "no modality of the run"
    patients = len({record.patient for record in stock.records})
    alone = "".join(f", {count} of them {name} alone" for name, count in _alone(run, stock).items())
    return f"{len(stock.records)} studies of {patients} patients{alone}, in {stock.root}; training sees {held}"


def _alone(run: Run, stock: Stock) -> Counter[str]:
    """Studies that hold one modality of the run and no other, by modality: reports without an image, say."""
    held = [[name for name in run.flows.union.modalities if record.has(name)] for record in stock.records]
    return Counter(names[0] for names in held if len(names) == 1 < len(run.flows.union.modalities))


def _phase(run: Run, registry: Registry, stocks: Sequence[Stock], phase: Phase) -> list[str]:
    """One phase: its rounds, or its weight sets where each trains once."""
    views = run.config.align.visual_invariance
    missing = missing_parts(run.flows.of(phase), run.modalities, run.config.preset, phase, views=views)
    notes = [f"  {fault} at preset '{run.config.preset}'" for fault in missing]
    if phase == "align" or phase == "guide":
        rounds = run.rounds(phase)
        lines = [line for item in rounds for line in _round(run, registry, stocks, item)]
        return [f"PHASE {phase}: {_count(len(rounds), 'round')}", *lines, *notes]
    rows = [_once(run, stocks, weights, phase) for weights in run.once(phase)]
    return [f"PHASE {phase}: each weight set once, on all its data", *(columns(rows) if rows else []), *notes]


def _once(run: Run, stocks: Sequence[Stock], weights: WeightSet, phase: Phase) -> tuple[str, str, str]:
    """Weight set, number of samples, and whose they are."""
    owners = [name for name in weights.owners if name in run.outputs]
    samples = _num_samples(stocks, owners)
    whose = [_prompted(run, name) if phase == "diffuse" else name for name in owners]
    return weights.key, f"{samples} samples" if samples else "no data", "; ".join(whose)


def _prompted(run: Run, name: str) -> str:
    return f"{name} prompted by {', '.join(run.prompt_sources(name)) or 'nothing'}"


def _round(run: Run, registry: Registry, stocks: Sequence[Stock], item: Round) -> Iterator[str]:
    """One round: weights, then the studies that hold both ends of each pair."""
    yield f"  {item.index}  {item.edge.text}"
    yield from labelled("trains", ", ".join(item.trains) or "nothing: all of it is frozen", indent=5, column=8)
    yield from labelled("frozen", ", ".join(item.frozen) or "nothing", indent=5, column=8)
    rows = list(_pairs(registry, stocks, item))
    for label, row in zip(["pairs"] + [""] * len(rows), columns(rows, indent=0), strict=False):
        yield f"     {label:8}{row}"


def _pairs(registry: Registry, stocks: Sequence[Stock], item: Round) -> Iterator[tuple[str, str]]:
    """Each pair of a round with its number of studies per data set; with several sources, the whole batch too."""
    edge = item.edge
    together = [edge.modalities] if len(edge.sources) > 1 else []
    for group in [*(edge.coupled if item.phase == "guide" else edge.pairs), *together]:
        allowed = registry.pair(*group).datasets if len(group) == 2 else None
        counts = {stock.name: stock.num_pairs(group) for stock in stocks if allowed is None or stock.name in allowed}
        found = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        yield " + ".join(group), f"{sum(counts.values())} studies ({found})" if found else "no data"


def _reachable(run: Run) -> list[str]:
    """Pairs that no round joins."""
    pairs = reachable_pairs(run.flows.union)
    text = ", ".join(f"{first} + {second}" for first, second in pairs) or "none"
    return ["REACHABLE without ever having been paired", *labelled("", text, indent=2, column=0)]


def _num_samples(stocks: Sequence[Stock], names: Sequence[str]) -> int:
    return sum(stock.num_samples(names) for stock in stocks)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
