"""Who may prompt an output: its neighbours in a flow, as a recipe says, and in phase ``guide`` none of its partners."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.config.recipe import PromptChoice
from core.flow.grammar import Flow


def prompt_sources(output: str, choice: PromptChoice, centre: str, *, align: Flow, union: Flow) -> tuple[str, ...]:
    """Return the modalities that may prompt an output, in the order of the flow (method E5).

    ``choice.sources``: the output's neighbours in the flow of phase ``align``, in the ``union`` of both flows, or of
    these the ``centre`` alone.
    """
    names = neighbours(align if choice.sources == "align_flow" else union, output)
    return tuple(name for name in names if name == centre) if choice.sources == "centre" else names


def neighbours(flow: Flow, modality: str) -> tuple[str, ...]:
    """Return the modalities at the other end of the edges of ``modality``, in the flow's order.

    Members of one alias and sources joined by ``+`` are neighbours of the other end, not of each other.
    """
    pairs = [pair for edge in flow.edges for pair in edge.pairs if modality in pair]
    return tuple(dict.fromkeys(name for pair in pairs for name in pair if name != modality))


def guide_sources(target: str, partners: Collection[str], available: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities that may prompt ``target``: neither itself nor one of its partners (method E6c).

    A prompt from a partner would already contain the partner's context, and the coupling would learn nothing.
    """
    return tuple(name for name in available if name != target and name not in partners)
