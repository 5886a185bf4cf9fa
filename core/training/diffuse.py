"""Phase ``diffuse``: each output's denoiser, prompted by its neighbours in the flow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from core.diffuse.train import Target, train_denoiser
from core.encode.latents import scaled
from core.evaluate.table import Line
from core.flow.rounds import WeightSet
from core.generate.bundle import assembly_key
from core.training.autoencoder import latents_of
from core.training.session import Course


def diffuse(course: Course) -> None:
    """Train the denoisers of the outputs."""
    for weights in course.run.once("diffuse"):
        keys = [weights.key, *(assembly_key(name) for name in weights.owners)]
        course.stage("diffuse", weights.key, keys, partial(_train, course, weights))


def _train(course: Course, weights: WeightSet) -> Iterator[Line]:
    config = course.run.config
    losses = train_denoiser(
        course.trainer,
        weights.key,
        course.networks.of(weights.key),
        [_target(course, name) for name in weights.owners],
        course.cohort.training,
        config.training.diffuse,
        prompt=config.prompt,
        min_snr_gamma=config.diffuse.min_snr_gamma,
    )
    course.networks.save("diffuse", weights.key)
    for name in weights.owners:
        course.networks.save("diffuse", assembly_key(name), sources=list(course.run.prompt_sources(name)))
    for name, own in zip(weights.owners, losses, strict=True):
        yield _line(name, own)


def _target(course: Course, name: str) -> Target:
    spec = course.bundle.latent_spec(name)
    return Target(
        name=name,
        places=course.cohort.training.require_indices_with(name),
        latents=scaled(latents_of(course, name).mean, spec),
        assembly=course.bundle.assembly(name),
        encoders={source: course.bundle.part(source, "prompt") for source in course.run.prompt_sources(name)},
    )


def _line(name: str, losses: Sequence[float]) -> Line:
    """The fall of the training loss: the mean of its last tenth beside that of its first."""
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    return Line("diffuse", f"{name}: training loss, last tenth", last, f"first tenth {first:.4f}")
