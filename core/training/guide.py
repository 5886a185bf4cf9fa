"""Phase ``guide``: the rounds of the guide flow, earlier weight sets frozen (METHOD E15)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

from core.encode.latents import scaled
from core.errors import MedWeaveWarning
from core.evaluate.coupling import listenings
from core.evaluate.table import Line
from core.flow.rounds import Round
from core.guide.train import Guidance, Member, start_stand_in, train_guide_round
from core.training.autoencoder import latents_of
from core.training.session import Course


def guide(course: Course) -> None:
    """Couple the denoisers round by round."""
    for one in course.run.rounds("guide"):
        course.stage("guide", f"{one.index} {one.edge.text}", one.trains, partial(_train, course, one))


def _train(course: Course, one: Round) -> Iterator[Line]:
    config = course.run.config
    members = {name: _member(course, name) for name in one.modalities}
    trained = {key: course.bundle.guidance(key) for key in one.trains}
    for name, member in members.items():
        if f"context.{name}" in trained:
            start_stand_in(member, course.cohort.training, course.trainer)
    learned: list[tuple[str, str]] = []
    if trained:
        learned = train_guide_round(
            course.trainer,
            Guidance(
                name=f"{one.index} {one.edge.text}",
                members=members,
                trained=trained,
                pairs=one.edge.coupled,
                studies=course.cohort.training,
                training=config.training.guide,
                choice=config.guide,
            ),
        )
    decided = listenings(course.bundle, course.cohort, learned)
    heard = [listening for listening, _ in decided]
    for key in one.trains:
        course.networks.save("guide", key, pairs=[list(pair) for pair in learned], listening=list(map(list, heard)))
    missing = [pair for pair in one.edge.coupled if not course.cohort.training.indices_with(*pair)]
    if missing and course.compute.is_main:
        named = ", ".join(" and ".join(pair) for pair in missing)
        warnings.warn(
            MedWeaveWarning(f"guide {one.edge.text}: no training study holds {named}; not coupled"), stacklevel=2
        )
    yield from (told for _, told in decided)


def _member(course: Course, name: str) -> Member:
    sources, bundle = course.run.prompt_sources(name), course.bundle
    own = course.run.parts(name).prompt
    return Member(
        name=name,
        places=course.cohort.training.require_indices_with(name),
        latents=scaled(latents_of(course, name).mean, bundle.latent_spec(name)),
        denoiser=bundle.part(name, "denoiser"),
        environment=bundle.environment(name),
        assembly=bundle.assembly(name),
        prompt=None if own is None else bundle.part(name, "prompt"),
        encoders={source: bundle.part(source, "prompt") for source in sources},
    )
