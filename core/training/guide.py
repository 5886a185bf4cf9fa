"""Phase ``guide``: the rounds of the guide flow, earlier weight sets frozen (method E15)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

from core.encode.latents import scaled
from core.errors import MedWeaveWarning
from core.evaluate.coupling import coupling_decisions
from core.evaluate.table import MetricRow
from core.flow.rounds import Round
from core.guide.train import GuideRound, RoundModality, start_adaptation, train_guide_round
from core.training.autoencoder import latents_of
from core.training.session import TrainingSession


def guide(session: TrainingSession) -> None:
    """Couple the denoisers round by round."""
    for step in session.run.rounds["guide"]:
        session.stage("guide", _name(step), step.trains, partial(_train, session, step))


def _name(step: Round) -> str:
    return f"{step.index} {step.edge.text}"


def _train(session: TrainingSession, step: Round) -> Iterator[MetricRow]:
    config = session.run.config
    members = {name: _member(session, name) for name in step.modalities}
    trained = {key: session.bundle.guidance(key) for key in step.trains}
    for name, member in members.items():
        if f"context.{name}" in trained:
            start_adaptation(member, session.cohort.training, session.trainer)
    learned: list[tuple[str, str]] = []
    if trained:
        learned = train_guide_round(
            session.trainer,
            GuideRound(
                name=_name(step),
                members=members,
                trained=trained,
                pairs=step.edge.coupled,
                studies=session.cohort.training,
                training=config.training.guide,
                choice=config.guide,
            ),
        )
    decisions = coupling_decisions(session.bundle, session.cohort, learned)
    listening = [list(decision) for decision, _ in decisions]
    for key in step.trains:
        session.networks.save("guide", key, pairs=[list(pair) for pair in learned], listening=listening)
    missing = [pair for pair in step.edge.coupled if not session.cohort.training.indices_with(*pair)]
    if missing and session.compute.is_main:
        named = ", ".join(" and ".join(pair) for pair in missing)
        warnings.warn(
            MedWeaveWarning(f"guide {step.edge.text}: no training study holds {named}; not coupled"), stacklevel=2
        )
    yield from (row for _, row in decisions)


def _member(session: TrainingSession, name: str) -> RoundModality:
    sources, bundle = session.run.prompt_sources(name), session.bundle
    return RoundModality(
        name=name,
        indices=session.cohort.training.require_indices_with(name),
        latents=scaled(latents_of(session, name).mean, bundle.latent_spec(name)),
        denoiser=bundle.part(name, "denoiser"),
        context_encoder=bundle.context_encoder(name),
        assembly=bundle.assembly(name),
        prompt=None if session.run.parts(name).prompt is None else bundle.part(name, "prompt"),
        encoders={source: bundle.prompt_encoder(source) for source in sources},
    )
