"""Phase ``autoencoder``: train each weight set on the union of its data, then measure the scale of its latents.

Given weights may stay as they are (``autoencoder.train = false``): then only the scale is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from core.contract.build import build_part
from core.encode.adversary import adversary_of
from core.encode.cache import cached_latents
from core.encode.latents import fit_scale
from core.encode.perceptual import PerceptualLoss, PromptFeatures, TimmFeatures
from core.encode.train import NO_FURTHER, FurtherLosses, train_autoencoder
from core.engine.checkpoint import load_weights
from core.errors import UserError
from core.evaluate.reconstruction import validation_reconstruction
from core.evaluate.table import MetricRow
from core.flow.rounds import WeightSet
from core.generate.networks import homes_of, read_progress
from core.training.session import TrainingSession
from core.types import LatentSpec, Posterior


def autoencoder(session: TrainingSession) -> None:
    """Train the autoencoders of the outputs."""
    for weights in session.run.trained_once("autoencoder"):
        session.stage("autoencoder", weights.key, [weights.key], partial(_train, session, weights))


def _train(session: TrainingSession, weights: WeightSet) -> Iterator[MetricRow]:
    module, studies, config = session.networks.of(weights.key), session.cohort.whole, session.run.config
    is_image = session.run.parts(weights.owners[0]).data.kind == "grid"
    if config.autoencoder.train or not is_image:
        further = _further_losses(session, weights) if is_image else NO_FURTHER
        training = config.training.autoencoder
        train_autoencoder(session.trainer, weights.key, module, weights.owners, studies, training, further)
    module.eval()
    specs = {name: _scaled_spec(session, name) for name in weights.owners}
    session.networks.save("autoencoder", weights.key, latents={name: asdict(spec) for name, spec in specs.items()})
    held_out = session.cohort.held_out
    for name in (name for name in weights.owners if held_out.indices_with(name)):
        what, value = validation_reconstruction(session.bundle, held_out, name)
        yield MetricRow("autoencoder", f"{name}: {what}, held out", value)


def _further_losses(session: TrainingSession, weights: WeightSet) -> FurtherLosses:
    """Return the perceptual and the adversarial loss of a weight set, as far as the recipe has them."""
    choice, spec = session.run.config.autoencoder, session.run.parts(weights.owners[0]).data
    perceptual = {}
    if choice.perceptual_weight:
        source = Path(str(choice.perceptual_from)).expanduser()
        of_timm = None if _is_run(source) else TimmFeatures(source, session.compute.device)
        features = {name: of_timm or _prompt_features(session, source, name) for name in weights.owners}
        perceptual = {name: PerceptualLoss(seen, choice.perceptual_distance) for name, seen in features.items()}
    adversary = adversary_of(choice, spec.channels, len(spec.space), session.trainer.seed)
    return FurtherLosses(
        perceptual=perceptual,
        perceptual_weight=choice.perceptual_weight,
        adversary=adversary,
        start=choice.adversarial_start,
    )


def _is_run(folder: Path) -> bool:
    return (folder / "progress.json").is_file()


def _prompt_features(session: TrainingSession, folder: Path, modality: str) -> PromptFeatures:
    """Return the features of the prompt encoder that an earlier run has aligned for a modality.

    `UserError` where that run has none, or one of other sizes.
    """
    key = session.run.parts(modality).weight_key(modality, "prompt")
    home = homes_of(read_progress(folder), folder).get(key)
    if home is None or key not in session.run.weight_sets:
        raise UserError(
            f"autoencoder.perceptual_from = '{folder}': that run has aligned no prompt encoder '{key}' of {modality};"
            " give the folder of a run whose phase 'align' covers all images of this one, or of a timm network"
        )
    weights = session.run.weight_sets[key]
    encoder = build_part(weights.config, key, weights.owners)
    load_weights(encoder, home)
    return PromptFeatures(session.compute.to_device(encoder))


def latents_of(session: TrainingSession, modality: str) -> Posterior:
    """Return the latents of all training studies of a modality, ``sample channel *space``, in the order of indices.

    Disjoint pools hide modalities from pairing, not from what learns one modality alone: studies are those of
    `Cohort.whole`.
    """
    studies = session.cohort.whole
    module, indices = session.bundle.part(modality, "autoencoder"), studies.require_indices_with(modality)
    return cached_latents(module, modality, indices, studies, session.folder.path / "latents", session.compute)


def _scaled_spec(session: TrainingSession, modality: str) -> LatentSpec:
    """Return the latent spec with scale and shift over the whole training set (method E7)."""
    return fit_scale(session.bundle.part(modality, "autoencoder").spec, [latents_of(session, modality).mean])
