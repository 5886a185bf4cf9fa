"""Prompts and given modalities that no output hears are refused: a file would say of them that they were used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from core.errors import UserError, listed
from core.generate.bundle import Bundle
from core.generate.partners import Couple
from core.generate.study import heard_prompts, trained_couples
from core.types import Prompt


def refuse_unheard_prompts(bundle: Bundle, outputs: Sequence[str], told: Mapping[str, Prompt]) -> None:
    """`UserError` for a prompt that conditions no output (METHOD E6b)."""
    heard = {name: prompts_heard_by(bundle, name, told) for name in outputs}
    for prompt in told:
        if not any(prompt in names for names in heard.values()):
            sources = {name: bundle.run.prompt_sources(name) for name in outputs}
            raise UserError(
                f"--prompt {prompt}: no output hears it ({_who(sources, 'hears')}); prompt with one of these, make"
                " another --output, or leave it out"
            )


def prompts_heard_by(bundle: Bundle, output: str, told: Mapping[str, Prompt]) -> set[str]:
    """The prompts that an output is conditioned on: its sources, and strangers as long as a source's place is free."""
    sources = bundle.run.prompt_sources(output)
    taken = {name: prompt for name, prompt in told.items() if name in sources}
    heard = set(taken)
    for name, prompt in told.items():
        if name not in sources:
            places = len(heard_prompts(bundle, output, taken))
            taken[name] = prompt
            if len(heard_prompts(bundle, output, taken)) > places:
                heard.add(name)
    return heard


def refuse_unheard_given(
    bundle: Bundle, outputs: Sequence[str], given: Collection[str], couple: Couple | None, way: str
) -> None:
    """`UserError` for a given modality that no output listens to; ``way`` is the ``--couple`` that was chosen."""
    heard = {name: partners_of(bundle, name, given, couple) for name in outputs}
    for partner in given:
        if not any(partner in names for names in heard.values()):
            known = trained_couples(bundle, outputs, bundle.run.flows.union.modalities)
            trained = {name: sorted(known[name]) if bundle.coupled(name) else () for name in outputs}
            raise UserError(
                f"--given {partner}: no output listens to it with --couple {way} (trained:"
                f" {_who(trained, 'listens to')}); give it as --prompt, choose another --couple, or leave it out"
            )


def partners_of(bundle: Bundle, output: str, others: Collection[str], couple: Couple | None) -> Collection[str]:
    """Those of the ``others`` that an output listens to; one that has not learned to listen hears nobody."""
    if not bundle.coupled(output):
        return ()
    return others if couple is None else couple.get(output, ())


def _who(heard: Mapping[str, Collection[str]], verb: str) -> str:
    return "; ".join(f"{name} {verb} {listed(names)}" for name, names in heard.items())
