"""Read the flow of a run: ``text-xray,text-ct,ct-mri``.

``flow = edge ("," edge)*``, ``edge = source ("+" source)* "-" target``. Edges are rounds in the order of
training, and an alias is a group inside one round. Both directions of an edge are trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, product

from core.contract.modality import Modality
from core.errors import MedWeaveWarning, PluginDisabledError, UserError, join_choices, nearest


@dataclass(frozen=True)
class Item:
    """A name as it stands in a flow, and the modalities that it means: one, or those of an alias."""

    name: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """One item of a flow. ``text``: as the user wrote it, without blanks."""

    sources: tuple[Item, ...]
    target: Item
    text: str

    @property
    def source_modalities(self) -> tuple[str, ...]:
        """Modalities on the left, in order."""
        return tuple(name for item in self.sources for name in item.modalities)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of one batch of this round: sources first."""
        return self.source_modalities + self.target.modalities

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs that the round trains: every source with every target, sources not among themselves."""
        return tuple(product(self.source_modalities, self.target.modalities))

    @property
    def coupled(self) -> tuple[tuple[str, str], ...]:
        """The pairs that phase ``guide`` couples: every two modalities of the round, because they share a study."""
        return tuple(combinations(self.modalities, 2))

    @property
    def ends(self) -> frozenset[frozenset[str]]:
        """The two ends without their direction."""
        return frozenset({frozenset(self.source_modalities), frozenset(self.target.modalities)})


@dataclass(frozen=True)
class Flow:
    """A checked flow: connected, no edge twice."""

    edges: tuple[Edge, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Every modality once, in the order of training."""
        return tuple(dict.fromkeys(name for edge in self.edges for name in edge.modalities))

    def __str__(self) -> str:
        return ",".join(edge.text for edge in self.edges)


def reachable_pairs(flow: Flow) -> tuple[tuple[str, str], ...]:
    """Return the pairs that are connected through other modalities only, because they are in no round together."""
    together = {frozenset(pair) for edge in flow.edges for pair in combinations(edge.modalities, 2)}
    return tuple(pair for pair in combinations(flow.modalities, 2) if frozenset(pair) not in together)


def parse_flow(
    text: str,
    modalities: Mapping[str, Modality],
    aliases: Mapping[str, tuple[str, ...]],
    broken: Mapping[str, Exception] | None = None,
) -> Flow:
    """Read and check a flow.

    ``broken`` are plugins that failed to load or are turned off; an unknown name is explained by them. Raises
    `UserError` that names the item, the rule and the choices; warns (`MedWeaveWarning`) of an edge that brings no new
    modality.
    """
    require_free_aliases(aliases, modalities)
    if not text.strip():
        raise UserError(
            "the flow is empty; write edges such as 'a-b,b-c' with names of " + _choices(modalities, aliases)
        )
    names = _Names(modalities, aliases, broken or {})
    edges = tuple(_parse_edge(item, text, names) for item in text.split(","))
    _require_connected(edges)
    return Flow(edges)


def require_free_aliases(aliases: Mapping[str, tuple[str, ...]], modalities: Iterable[str]) -> None:
    """Raise `UserError` where an alias has the name of an installed modality, which it would hide."""
    hidden = sorted(set(aliases) & set(modalities))
    if hidden:
        raise UserError(f"alias '{hidden[0]}' has the name of an installed modality; rename it in [aliases]")


@dataclass(frozen=True)
class _Names:
    """What a name in a flow may mean."""

    modalities: Mapping[str, Modality]
    aliases: Mapping[str, tuple[str, ...]]
    broken: Mapping[str, Exception]

    def item(self, name: str, where: str) -> Item:
        """Return the item of a name; `UserError` for an unknown one."""
        if name in self.modalities:
            return Item(name, (name,))
        if name not in self.aliases:
            choices = _choices(self.modalities, self.aliases)
            near = nearest(name, [*self.modalities, *self.aliases])
            raise UserError(f"{where}: no modality '{name}' ({choices}){near}{self._failures(name)}")
        for member in self.aliases[name]:
            if member not in self.modalities:
                raise UserError(
                    f"{where}: alias '{name}' means modality '{member}', which is not installed (installed:"
                    f" {join_choices(self.modalities)}); install its plugin or change aliases.{name} in registry.toml"
                    f"{self._failures(member)}"
                )
        return Item(name, tuple(self.aliases[name]))

    def _failures(self, name: str) -> str:
        """Return plugins that failed to load, the one with this name first, and those that are turned off."""
        order = sorted(self.broken, key=lambda plugin: (plugin != name, plugin))
        off = [plugin for plugin in order if isinstance(self.broken[plugin], PluginDisabledError)]
        failed = [f"; plugin '{plugin}' failed to load: {self.broken[plugin]}" for plugin in order if plugin not in off]
        # What a plugin that is off would offer is not known; the names of most begin as those of their modalities.
        likely = [plugin for plugin in off if name.startswith(plugin)]
        hints = [f"; {self.broken[plugin]}" for plugin in likely]
        return "".join(failed + (hints or ([f"; turned off: {', '.join(off)}"] if off else [])))


def _choices(modalities: Iterable[str], aliases: Iterable[str]) -> str:
    groups = join_choices(aliases)
    return f"installed: {join_choices(modalities)}" + ("" if groups == "none" else f"; aliases: {groups}")


def _parse_edge(item: str, flow: str, names: _Names) -> Edge:
    """Return one edge, checked by itself."""
    text = "".join(item.split())
    if not text:
        raise UserError(f"flow '{flow.strip()}' has an empty item; remove the surplus comma")
    where = f"flow item '{text}'"
    ends = text.split("-")
    if len(ends) != 2:
        count = "no '-'" if len(ends) == 1 else f"{len(ends) - 1} times '-'"
        raise UserError(f"{where}: found {count}; an edge is 'source-target' or 'source+source-target', edges are"
                        " separated by ','")  # fmt: skip
    if "+" in ends[1]:
        raise UserError(f"{where}: '+' joins sources only; put the single target last, or use an alias as target")
    written = [*ends[0].split("+"), ends[1]]
    if not all(written):
        raise UserError(f"{where}: a name is missing; an edge is 'source-target' or 'source+source-target'")
    *sources, target = [names.item(name, where) for name in written]
    edge = Edge(tuple(sources), target, text)
    _require_different_ends(edge, where)
    return edge


def _require_different_ends(edge: Edge, where: str) -> None:
    """Raise `UserError` where a modality stands in an edge twice."""
    left = edge.source_modalities
    twice = [name for name in left if left.count(name) > 1]
    if twice:
        raise UserError(f"{where}: source '{twice[0]}' is given twice; name it once")
    both = [name for name in left if name in edge.target.modalities]
    if both:
        raise UserError(f"{where}: '{both[0]}' is at both ends; an edge joins different modalities")


def _require_connected(edges: tuple[Edge, ...]) -> None:
    """Raise `UserError` where an edge is not connected to those before it, or comes twice."""
    known = dict.fromkeys(edges[0].modalities)
    for index, edge in enumerate(edges[1:], start=1):
        where = f"flow item '{edge.text}'"
        same = [earlier for earlier in edges[:index] if earlier.ends == edge.ends]
        if same:
            raise UserError(f"{where} repeats '{same[0].text}'; write it once, both directions of an edge are trained")
        if not known.keys() & set(edge.modalities):
            raise UserError(
                f"{where} is an island: it touches none of the modalities before it ({', '.join(known)}); begin it"
                " with one of them, or put an edge before it that leads there"
            )
        if known.keys() >= set(edge.modalities):
            warnings.warn(
                f"{where} brings no new modality: with phases.freeze = 'earlier_rounds' its round has nothing to train",
                MedWeaveWarning,
                stacklevel=4,
            )
        known |= dict.fromkeys(edge.modalities)
