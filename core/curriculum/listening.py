"""Who listens to whom when nothing else is asked: those whom the partner helps on validation studies (METHOD F4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import torch

from core.curriculum.comparable import drawn, have_strangers, patients_of
from core.curriculum.course import Course
from core.curriculum.table import Line
from core.data.studies import Studies
from core.evaluate.benefit import savings
from core.generate.bundle import Bundle, Listening
from core.generate.pipeline import conditionings, encoded_latent
from core.guide.losses import FlowState

TIMESTEPS = (200, 500, 800)


def listenings(course: Course, pairs: Iterable[tuple[str, str]]) -> list[tuple[Listening, Line]]:
    """For both directions of every pair, whether the true partner lowers the error, and the table's line.

    It helps where the 95 % intervals of the share that it saves, over noise levels and validation patients, lie above
    0, beside no partner and beside another patient's. A pair that fewer than two validation patients hold is left
    out: nothing is known of it.
    """
    both = chain.from_iterable((pair, pair[::-1]) for pair in pairs)
    return [found for one in both for found in _listening(course, *one)]


def _listening(course: Course, receiver: str, sender: str) -> Iterable[tuple[Listening, Line]]:
    studies, seed = course.cohort.held_out, course.run.config.seed
    most = course.run.config.training.measure.samples
    places = drawn(studies, sorted((receiver, sender)), most, seed, "listening")
    who = patients_of(studies, places)
    if not have_strangers(who):
        return
    none, other = savings(
        flow_state(course.bundle, studies, receiver, places),
        flow_state(course.bundle, studies, sender, places),
        TIMESTEPS,
        seed=seed,
        indices=places,
        patients=who,
    )
    helps = none.low > 0 and other.low > 0
    verdict = "helps" if helps else "not shown to help: not listened to, unless asked"
    beside = f"beside another's {other.value:+.4f} [{other.low:.4f}, {other.high:.4f}]; {verdict}"
    what = f"{receiver} listens to {sender}: error saved beside no partner, validation"
    yield Listening(receiver, sender, helps), Line("guide", what, none.value, beside, none.low, none.high)


def flow_state(bundle: Bundle, studies: Studies, name: str, places: Sequence[int]) -> FlowState:
    """A modality of studies on its way, with the null prompt."""
    bundle.sites(name)
    with torch.no_grad():
        latent = torch.cat([encoded_latent(bundle, name, batch) for batch in studies.batches(name, list(places))])
        _, null = conditionings(bundle, name, {}, len(places))
    return FlowState(
        latent=latent,
        denoiser=bundle.part(name, "denoiser").eval(),
        environment=bundle.environment(name).eval(),
        conditioning=null,
    )
