"""Phase ``autoencoder``: each weight set on the union of its data, then the latents and the scale of each owner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import torch

from core.encode.cache import cached_latents
from core.encode.latents import fit_scale
from core.encode.train import train_autoencoder
from core.evaluate.table import Line
from core.flow.rounds import WeightSet
from core.training.session import Course
from core.types import Batch, LatentSpec, Posterior


def autoencoder(course: Course) -> None:
    """Train the autoencoders of the outputs."""
    for weights in course.run.once("autoencoder"):
        course.stage("autoencoder", weights.key, [weights.key], partial(_train, course, weights))


def _train(course: Course, weights: WeightSet) -> Iterator[Line]:
    module, studies = course.networks.of(weights.key), course.cohort.training
    train_autoencoder(
        course.trainer, weights.key, module, weights.owners, studies, course.run.config.training.autoencoder
    )
    specs = {name: _measured(course, name) for name in weights.owners}
    course.networks.save("autoencoder", weights.key, latents={name: asdict(spec) for name, spec in specs.items()})
    held_out = course.cohort.held_out
    for name in (name for name in weights.owners if held_out.indices_with(name)):
        yield _held_out(course, name)


def latents_of(course: Course, modality: str) -> Posterior:
    """The latents of all training studies of a modality, ``sample channel *space``, in the order of their places."""
    studies = course.cohort.training
    module, places = course.bundle.part(modality, "autoencoder"), studies.require_indices_with(modality)
    return cached_latents(module, modality, places, studies, course.folder.path / "latents", course.compute)


def _measured(course: Course, modality: str) -> LatentSpec:
    """The spec with scale and shift over the whole training set (METHOD E7)."""
    return fit_scale(course.bundle.part(modality, "autoencoder").spec, [latents_of(course, modality).mean])


def _held_out(course: Course, modality: str) -> Line:
    """What comes back: the mean absolute error, or the share of texts that are the same token by token."""
    studies, module = course.cohort.held_out, course.bundle.part(modality, "autoencoder")
    tokens = studies.parts[modality].data.kind == "tokens"
    found: list[float] = []
    for batch in studies.batches(modality, studies.indices_with(modality)):
        placed = course.compute.to_device(batch)
        with torch.no_grad():
            made = module.decode(module.encode(placed).mean)
        found += _same(placed, made) if tokens else _errors(placed, made)
    what = "back token by token" if tokens else "mean absolute error"
    return Line("autoencoder", f"{modality}: {what}, held out", sum(found) / len(found))


def _errors(batch: Batch, made: Batch) -> list[float]:
    """Mean absolute error of every sample."""
    return (made.data - batch.data).abs().float().flatten(1).mean(1).tolist()


def _same(batch: Batch, made: Batch) -> list[float]:
    """1 for every text that came back token by token."""
    return [float(_tokens(batch, row) == _tokens(made, row)) for row in range(len(batch))]


def _tokens(batch: Batch, row: int) -> list[int]:
    """The tokens of a text without padding."""
    ids = batch.data[row]
    return (ids if batch.mask is None else ids[batch.mask[row]]).tolist()
