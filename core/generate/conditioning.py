"""Which inputs of a request reach which output: prompts, partners, and the image whose grid an output takes.

`conditioning_graph` decides it once per request. The refusal of unused inputs, the sampler and provenance read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from core.config.sampler import SamplerChoice
from core.errors import UserError, join_choices
from core.generate.bundle import Bundle
from core.guide.positions import known_axes
from core.preprocess.spatial import reorient_to
from core.types import Geometry

Coupling = Literal["auto", "trained", "all", "none"]


class Reason(StrEnum):
    """Why another modality of the request is a partner of an output, or why it is not."""

    TRAINED = "trained"
    USED = "trained, and not shown harmful on validation studies"
    ALL = "enabled by --coupling all"
    PROMPT = "is finished first and prompts it"
    LATER = "begins when this is finished"
    NO_ATTENTION = "has no trained context attention"
    NO_CONTEXT = "has no trained context encoder"
    NOT_TRAINED = "pair is not trained"
    HARMFUL = "shown harmful on validation studies, disabled by default"
    DISABLED = "disabled by --coupling none"


_PARTNER_REASONS = (Reason.TRAINED, Reason.USED, Reason.ALL)


@dataclass(frozen=True, kw_only=True)
class ConditioningGraph:
    """What every output of one request is conditioned on, by output.

    ``prompts``: the modality of the prompt by the prompt source that it stands for (method E6b). ``negative``: the same
    for the prompts in place of the null prompt, and empty where no guidance reads them (method E6). ``partners``: the
    outputs and given modalities whose contexts the output attends to (method F1, F4), outputs first. ``reasons``: for
    every other modality of the request, why it is a partner or not. ``grids``: the given image whose grid is taken.
    ``first``: the outputs that are finished before the others begin; they are among the prompts of the others (F3).
    """

    prompts: Mapping[str, Mapping[str, str]]
    partners: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, Mapping[str, Reason]]
    grids: Mapping[str, str]
    negative: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    first: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The modalities to generate."""
        return tuple(self.partners)

    def inputs(self) -> dict[str, set[str]]:
        """Return by output all prompts and given modalities that it depends on, named as in provenance.

        An output depends on its prompts and given partners, on the image whose grid it takes, and on whatever the
        outputs depend on that are its partners or prompt it.
        """
        inputs = {name: self._direct_inputs(name) for name in self.outputs}
        for _ in self.outputs:  # as far as a chain of partners can reach
            for name, partners in self.partners.items():
                finished = {prompt for prompt in self.prompts[name].values() if prompt in self.first}
                others = {*partners, *finished} & inputs.keys()
                inputs[name] = inputs[name].union(*(inputs[other] for other in others))
        return inputs

    def of(self, outputs: Collection[str]) -> ConditioningGraph:
        """Return what the graph says of these outputs."""
        tables = ("prompts", "negative", "partners", "reasons", "grids")
        rows = {key: {name: row for name, row in getattr(self, key).items() if name in outputs} for key in tables}
        return replace(self, **rows, first=())

    def _direct_inputs(self, output: str) -> set[str]:
        given = {partner for partner in self.partners[output] if partner not in self.partners}
        given |= {self.grids[output]} if output in self.grids else set()
        negative = map(negative_key, self.negative.get(output, {}).values())
        prompts = {prompt for prompt in self.prompts[output].values() if prompt not in self.first}
        return {*prompts, *negative, *map(given_key, given)}


def given_key(name: str) -> str:
    """Return the name of a given modality in provenance, where it may be a prompt too."""
    return f"given {name}"


def negative_key(name: str) -> str:
    """Return the name of a negative prompt in provenance."""
    return f"negative {name}"


def conditioning_graph(
    bundle: Bundle,
    outputs: Sequence[str],
    *,
    prompts: Collection[str] = (),
    negative: Collection[str] = (),
    given: Mapping[str, Geometry | None] | None = None,
    coupling: Coupling = "auto",
    first: Collection[str] = (),
    unguided: Collection[str] = (),
) -> ConditioningGraph:
    """Decide which inputs reach which output (method E6b, F3, F4).

    ``prompts`` and ``negative`` prompts are modalities, ``given`` modalities with the geometry of their image.
    ``coupling``: the pairs that a guide round has trained and no validation study speaks against ("auto"), all trained
    pairs, all pairs, or none. A given modality is requested by name, so "auto" takes it wherever it is trained.
    Outputs in ``first`` that are no prompt prompt the others once they are finished, unless outputs are
    generated independently ("none"). ``unguided``: outputs that do not follow their partners, at context scale 0.
    """
    given = given or {}
    first = () if coupling == "none" else _finished_first(bundle, outputs, prompts, first)
    reasons = {name: _partner_reasons(bundle, name, outputs, tuple(given), coupling, first) for name in outputs}
    images = {name: _grid_source(bundle, name, given) for name in outputs}
    partners = {
        name: tuple(other for other, reason in others.items() if reason in _PARTNER_REASONS)
        for name, others in reasons.items()
    }

    def routed(name: str, requested: Iterable[str], finished: Collection[str] = ()) -> dict[str, str]:
        generated = [other for other in partners[name] if other in outputs and name not in unguided]
        route = route_prompts(bundle, name, (*requested, *_at_first_hand(bundle, name, finished)))
        return _without_second_hand(bundle, name, route, generated)

    return ConditioningGraph(
        prompts={name: routed(name, prompts, () if name in first else first) for name in outputs},
        negative={name: routed(name, negative) for name in outputs},
        partners=partners,
        reasons=reasons,
        grids={name: image for name, image in images.items() if image is not None},
        first=first,
    )


def _finished_first(
    bundle: Bundle, outputs: Sequence[str], prompts: Collection[str], first: Collection[str]
) -> tuple[str, ...]:
    """Return the outputs that others wait for: those among ``first`` that are no prompts, but able to be.

    One among ``first`` that is a prompt too, as a report for which a sentence was given, comes last instead: no
    modality prompts itself (method E5), but the outputs that followed the prompt do.
    """
    described = [name for name in first if name in outputs and name in prompts]
    if described:
        others = tuple(name for name in outputs if name not in described)
        return others if any(map(bundle.has_trained_prompt_encoder, others)) else ()
    able = (name for name in first if name in outputs and name not in prompts)
    chosen = tuple(name for name in able if bundle.has_trained_prompt_encoder(name))
    return chosen if len(chosen) < len(outputs) else ()


def route_prompts(bundle: Bundle, output: str, prompts: Iterable[str]) -> dict[str, str]:
    """Return the prompts that an output reads, each under its own name (method E6b).

    A neighbour in the flow is read whole. Of any other modality the pooled vector is read alone, where the run knows
    its mean, and where the output was trained with pooled vectors of neighbours.
    """
    sources = bundle.run.prompt_sources(output)
    foreign = bool(sources) and bundle.run.config.prompt.form != "tokens_pooled_size"
    return {
        prompt: prompt
        for prompt in prompts
        if prompt in sources or (foreign and prompt != output and bundle.mean_prompt(prompt))
    }


def _at_first_hand(bundle: Bundle, output: str, finished: Collection[str]) -> Collection[str]:
    """Return the finished outputs that prompt another one: those that it was trained with, if there are any."""
    sources = bundle.run.prompt_sources(output)
    return [name for name in finished if name in sources] or finished


def _without_second_hand(
    bundle: Bundle, output: str, route: Mapping[str, str], partners: Collection[str]
) -> dict[str, str]:
    """Return the prompts of an output without those that a partner, generated along, was trained with and it was not.

    The partner says the same at first hand. A pooled vector that an output never met in training (method E6b) leads it
    away from its partners where the two differ, and they follow it (decision 26).
    """
    sources = bundle.run.prompt_sources(output)
    known = {prompt for partner in partners for prompt in bundle.run.prompt_sources(partner)}
    return {name: prompt for name, prompt in route.items() if prompt in sources or prompt not in known}


def _partner_reasons(
    bundle: Bundle,
    output: str,
    outputs: Sequence[str],
    given: Sequence[str],
    coupling: Coupling,
    first: Collection[str],
) -> dict[str, Reason]:
    trained = {frozenset(pair) for pair in bundle.trained_pairs}

    def reason(other: str) -> Reason:
        if (other in first) != (output in first) and other not in given:
            return Reason.PROMPT if other in first else Reason.LATER
        if not bundle.coupled(output):
            return Reason.NO_ATTENTION
        if other not in given and not bundle.coupled(other):
            return Reason.NO_CONTEXT
        if coupling in ("all", "none"):
            return Reason.ALL if coupling == "all" else Reason.DISABLED
        if frozenset((output, other)) not in trained:
            return Reason.NOT_TRAINED
        if coupling == "trained" or other in given:
            return Reason.TRAINED
        return Reason.USED if bundle.uses(output, other) else Reason.HARMFUL

    return {other: reason(other) for other in (*outputs, *given) if other != output}


def _grid_source(bundle: Bundle, output: str, given: Mapping[str, Geometry | None]) -> str | None:
    """Return the given image whose grid an output takes."""
    default = bundle.run.parts(output).data.default_geometry
    return next((name for name, geometry in given.items() if given_grid(default, [geometry]) is not None), None)


def given_grid(default: Geometry | None, given: Iterable[Geometry | None]) -> Geometry | None:
    """Return the grid of the first given image that shows the same plane or volume as an output, else ``None``.

    ``default`` is the output's default geometry; the grid is reoriented to its array axes. Slices of one plane share
    a grid, and volumes do; a projection and a slice, or data without a position, do not. The header of the given file
    (``source_header``) does not describe the output and is not taken.
    """
    if default is None or not all(known_axes(default)):
        return None
    for geometry in given:
        if geometry is not None and all(known_axes(geometry)) and len(geometry.shape) == len(default.shape):
            try:
                grid = reorient_to(geometry, default.orientation).geometry(geometry)
            except ValueError:  # slices of another plane
                continue
            return replace(grid, source_header=default.source_header)
    return None


def require_used_prompts(
    bundle: Bundle, graph: ConditioningGraph, prompts: Iterable[str], flag: str = "prompt"
) -> None:
    """Raise `UserError` for a prompt that conditions no output: files would name it as used (method E6b)."""
    routes = graph.prompts if flag == "prompt" else graph.negative
    for prompt in prompts:
        if not any(prompt in route.values() for route in routes.values()):
            sources = _by_output({name: bundle.run.prompt_sources(name) for name in graph.outputs})
            raise UserError(
                f"--{flag} {prompt}: is not used by any output (prompts by output: {sources}); prompt with one of"
                " these, choose another --output, or leave it out"
            )


def with_guidance(graph: ConditioningGraph, sampler: SamplerChoice) -> ConditioningGraph:
    """Return the graph without the negative prompts of outputs at guidance scale 1, which do not read them (E6).

    Raises `UserError` for a prompt that no guidance reads, at scale 0, and for a negative prompt that none reads.
    """
    for name in graph.outputs:
        if set(graph.prompts[name].values()) - set(graph.first) and sampler.scale_of(name) == 0:
            raise UserError(
                f"--guidance-scale 0: leaves every prompt of {name} out; leave --prompt out, or give a scale above 0"
            )
    negative = {name: {} if sampler.scale_of(name) == 1 else route for name, route in graph.negative.items()}
    if any(graph.negative.values()) and not any(negative.values()):
        raise UserError(
            "--negative-prompt: stands for the null prompt, which --guidance-scale 1 does not use; give another scale,"
            " or leave it out"
        )
    return replace(graph, negative=negative)


def require_used_conditions(bundle: Bundle, graph: ConditioningGraph, given: Iterable[str], coupling: Coupling) -> None:
    """Raise `UserError` for a given modality that is a partner of no output: files would name it as used."""
    for partner in given:
        if not any(partner in partners for partners in graph.partners.values()):
            reasons = "; ".join(f"{name}: {reasons[partner]}" for name, reasons in graph.reasons.items())
            raise UserError(
                f"--condition {partner}: is not used by any output with --coupling {coupling} ({reasons}; trained"
                f" partners: {_by_output(_trained_partners(bundle, graph.outputs))}); give it as --prompt, choose"
                " another --coupling, or leave it out"
            )


def _trained_partners(bundle: Bundle, outputs: Sequence[str]) -> dict[str, list[str]]:
    pairs = bundle.trained_pairs
    return {
        name: [other for pair in pairs if name in pair and bundle.coupled(name) for other in pair if other != name]
        for name in outputs
    }


def _by_output(names: Mapping[str, Collection[str]]) -> str:
    return "; ".join(f"{output} ← {join_choices(others)}" for output, others in names.items())
