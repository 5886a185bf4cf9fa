"""Phase ``diffuse``: train each output's denoiser, prompted by its neighbours in the flow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from core.diffuse.objective import Diffusion
from core.diffuse.train import Target, train_denoiser
from core.encode.latents import scaled
from core.evaluate.table import MetricRow
from core.flow.rounds import WeightSet, assembly_key
from core.training.autoencoder import latents_of
from core.training.session import TrainingSession


def diffuse(session: TrainingSession) -> None:
    """Train the denoisers of the outputs; prompt encoders that are given are stored with the run."""
    for key in session.run.given_encoders():
        session.stage("align", f"given {key}", [key], partial(_store_given, session, key))
    for weights in session.run.trained_once("diffuse"):
        keys = [weights.key, *(assembly_key(name) for name in weights.owners)]
        session.stage("diffuse", weights.key, keys, partial(_train, session, weights))


def _store_given(session: TrainingSession, key: str) -> Iterator[MetricRow]:
    session.networks.of(key)
    session.networks.save("align", key)
    yield from ()


def _train(session: TrainingSession, weights: WeightSet) -> Iterator[MetricRow]:
    config = session.run.config
    losses = train_denoiser(
        session.trainer,
        weights.key,
        session.networks.of(weights.key),
        [_target(session, name) for name in weights.owners],
        session.cohort.training,
        config.training.diffuse,
        prompt=config.prompt,
        diffusion=Diffusion.of(config.diffuse),
    )
    session.networks.save("diffuse", weights.key)
    for name in weights.owners:
        session.networks.save("diffuse", assembly_key(name), sources=list(session.run.prompt_sources(name)))
    for name, values in zip(weights.owners, losses, strict=True):
        yield _loss_row(name, values)


def _target(session: TrainingSession, name: str) -> Target:
    spec = session.bundle.latent_spec(name)
    return Target(
        name=name,
        indices=session.cohort.whole.require_indices_with(name),
        latents=scaled(latents_of(session, name).mean, spec),
        assembly=session.bundle.assembly(name),
        encoders={source: session.bundle.prompt_encoder(source) for source in session.run.prompt_sources(name)},
    )


def _loss_row(name: str, losses: Sequence[float]) -> MetricRow:
    """Return the mean training loss of the last tenth of the steps, compared with that of the first tenth."""
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    return MetricRow("diffuse", f"{name}: training loss, last tenth", last, f"first tenth {first:.4f}")
