"""Phase ``guide``: the rounds of the guide flow, earlier weight sets frozen (method E15)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

from core.diffuse.objective import Diffusion
from core.encode.latents import scaled
from core.errors import MedWeaveWarning
from core.evaluate.coupling import coupling_decisions
from core.evaluate.table import MetricRow
from core.flow.rounds import Round
from core.generate.bundle import CouplingDecision
from core.guide.train import GuideRound, RoundModality, start_adaptation, train_guide_round
from core.training.autoencoder import latents_of
from core.training.session import TrainingSession


def guide(session: TrainingSession) -> None:
    """Couple the denoisers round by round, and where the recipe says so all together in the end (method F9)."""
    for step in session.run.rounds["guide"]:
        session.stage(_kind(step), _name(step), step.trains, partial(_train, session, step))


def _kind(step: Round) -> Literal["guide", "joint"]:
    """Return where the log and the run folder have a round: weights of the joint round replace those of the others."""
    return "joint" if step.joint else "guide"


def _name(step: Round) -> str:
    return "all flows" if step.joint else f"{step.index} {step.edge.text}"


def _train(session: TrainingSession, step: Round) -> Iterator[MetricRow]:
    config, studies = session.run.config, session.cohort.training
    members = {name: _member(session, name) for name in step.modalities}
    trained = {key: session.bundle.guidance(key) for key in step.trains}
    for name, member in members.items():
        if f"context.{name}" in trained and not session.networks.trained(f"context.{name}"):
            start_adaptation(member, studies, session.trainer)
    learned: list[tuple[str, str]] = []
    if trained:
        learned = train_guide_round(
            session.trainer,
            GuideRound(
                phase=_kind(step),
                name=_name(step),
                members=members,
                trained=trained,
                pairs=step.edge.coupled,
                studies=studies,
                training=config.training.of(_kind(step)),
                choice=config.guide,
                prompt=config.prompt,
                diffusion=Diffusion.of(config.diffuse),
            ),
        )
    last = step == session.run.rounds["guide"][-1] or not session.run.rounds["guide"][-1].joint
    decisions = coupling_decisions(session.bundle, session.cohort, learned) if last else []
    for key in step.trains:
        session.networks.save(_kind(step), key, **_about(session, key, learned, [made for made, _ in decisions]))
    _warn_of_missing_pairs(session, step)
    yield from (row for _, row in decisions)


def _about(
    session: TrainingSession, key: str, learned: Sequence[tuple[str, str]], decisions: Sequence[CouplingDecision]
) -> dict[str, Any]:
    """Return what is recorded with a weight set of a round: its pairs, and who gains from whom."""
    if key.startswith(("context.", "sites.")):
        return {"pairs": [list(pair) for pair in learned], "listening": [list(decision) for decision in decisions]}
    known = session.networks.about(key)
    return {name: value for name, value in known.items() if name not in ("weight_set", "modalities")}


def _warn_of_missing_pairs(session: TrainingSession, step: Round) -> None:
    """Warn of pairs of the flow that no study holds. In a joint round, any study joins what it holds."""
    missing = [pair for pair in step.edge.coupled if not session.cohort.training.indices_with(*pair)]
    if missing and session.compute.is_main and not step.joint:
        named = ", ".join(" and ".join(pair) for pair in missing)
        message = f"guide {step.edge.text}: no training study holds {named}; not coupled"
        warnings.warn(MedWeaveWarning(message), stacklevel=2)


def _member(session: TrainingSession, name: str) -> RoundModality:
    sources, bundle = session.run.prompt_sources(name), session.bundle
    return RoundModality(
        name=name,
        indices=session.cohort.whole.require_indices_with(name),
        latents=scaled(latents_of(session, name).mean, bundle.latent_spec(name)),
        denoiser=bundle.part(name, "denoiser"),
        context_encoder=bundle.context_encoder(name),
        assembly=bundle.assembly(name),
        prompt=None if session.run.parts(name).prompt is None else bundle.part(name, "prompt"),
        encoders={source: bundle.prompt_encoder(source) for source in sources},
    )
