"""Phase ``autoencoder``: train each weight set on the union of its data, then measure the scale of its latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from core.encode.cache import cached_latents
from core.encode.latents import fit_scale
from core.encode.train import train_autoencoder
from core.evaluate.reconstruction import validation_reconstruction
from core.evaluate.table import MetricRow
from core.flow.rounds import WeightSet
from core.training.session import TrainingSession
from core.types import LatentSpec, Posterior


def autoencoder(session: TrainingSession) -> None:
    """Train the autoencoders of the outputs."""
    for weights in session.run.trained_once("autoencoder"):
        session.stage("autoencoder", weights.key, [weights.key], partial(_train, session, weights))


def _train(session: TrainingSession, weights: WeightSet) -> Iterator[MetricRow]:
    module, studies = session.networks.of(weights.key), session.cohort.training
    train_autoencoder(
        session.trainer, weights.key, module, weights.owners, studies, session.run.config.training.autoencoder
    )
    specs = {name: _scaled_spec(session, name) for name in weights.owners}
    session.networks.save("autoencoder", weights.key, latents={name: asdict(spec) for name, spec in specs.items()})
    held_out = session.cohort.held_out
    for name in (name for name in weights.owners if held_out.indices_with(name)):
        what, value = validation_reconstruction(session.bundle, held_out, name)
        yield MetricRow("autoencoder", f"{name}: {what}, held out", value)


def latents_of(session: TrainingSession, modality: str) -> Posterior:
    """Return the latents of all training studies of a modality, ``sample channel *space``, in the order of indices."""
    studies = session.cohort.training
    module, indices = session.bundle.part(modality, "autoencoder"), studies.require_indices_with(modality)
    return cached_latents(module, modality, indices, studies, session.folder.path / "latents", session.compute)


def _scaled_spec(session: TrainingSession, modality: str) -> LatentSpec:
    """Return the latent spec with scale and shift over the whole training set (method E7)."""
    return fit_scale(session.bundle.part(modality, "autoencoder").spec, [latents_of(session, modality).mean])
