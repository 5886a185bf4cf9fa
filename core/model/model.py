"""A trained model in Python: what it can make, studies from prompts and given data, vectors of the shared space."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import core
from core.config.installation import load_installation
from core.config.sampler import SamplerChoice, expanded_sampler
from core.errors import MedWeaveWarning, UserError, format_validation_error, unknown_name
from core.generate.bundle import Bundle
from core.generate.conditioning import Coupling, route_prompts
from core.generate.inputs import InputValue, read_input
from core.generate.pipeline import decoded, in_batches, restored
from core.generate.request import (
    GenerationRequest,
    ResolvedRequest,
    StudyRequest,
    generate_batches,
    resolve_request,
    shown_samples,
    study_samples,
)
from core.generate.sampling_flags import require_weights
from core.generate.sources import model_folder, open_model
from core.model.hub import fetched, is_hub_id
from core.model.study import Study
from core.preprocess.collate import collate, uncollate
from core.types import Batch, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS = 32  # inputs embedded at once


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplingStep:
    """What a callback sees after every sampling step.

    ``step`` counts from 0 within the outputs that are sampled together, ``steps`` is their number, and ``indices`` are
    the studies of the batch.
    """

    step: int
    steps: int
    indices: Sequence[int]
    latents: Mapping[str, Tensor]
    bundle: Bundle

    @property
    def outputs(self) -> tuple[str, ...]:
        """The modalities that this step worked on."""
        return tuple(self.latents)

    def estimate(self, modality: str) -> np.ndarray:
        """Return the present estimate of an output, canonical data ``study channel *space`` (a grid in [-1, 1])."""
        return decoded(self.bundle, modality, self.latents[modality]).data.cpu().numpy()

    def texts(self, modality: str) -> list[str]:
        """Return the present estimate of an output that is text, one per study. It is decoded as a finished one is."""
        batch = decoded(self.bundle, modality, self.latents[modality])
        return [str(sample.data) for sample in restored(self.bundle, modality, batch)]


@dataclass(frozen=True, kw_only=True)
class OutputDescription:
    """What a model makes one output from.

    ``prompts`` were trained with it; ``unpaired_prompts`` never were, and reach it through the shared space alone.
    ``partners`` are the modalities that it was trained together with: generated along, or given as a condition.
    """

    title: str
    prompts: tuple[str, ...]
    unpaired_prompts: tuple[str, ...]
    partners: tuple[str, ...]


class ModelDescription(dict[str, OutputDescription]):
    """What a model makes, by output; prints as a table."""

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("output", "prompted by", "never paired with", "together with, or given")]
        for name, output in self.items():
            cells = (output.prompts, output.unpaired_prompts, output.partners)
            rows.append((name, *(", ".join(cell) or "-" for cell in cells)))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


def load(source: str | Path, *, device: str = "auto", download: bool = False, revision: str | None = None) -> Model:
    """Return the trained model of a folder (a run, or an exported bundle), of a packaged name, or of a hub id.

    A packaged name is that of a model which a plugin brings along, as ``"phantom"``; a hub id is ``owner/name``.
    A hub id is looked up in the local cache; with ``download`` it is fetched from the hub, at ``revision``. No code of
    a model runs: it is safetensors, JSON and TOML. ``device``: auto, cpu, cuda, cuda:1, mps. Raises `UserError` where
    there is no such model, where it is damaged, or its modalities are not installed.
    """
    if core.shadowed_plugins:
        warnings.warn(MedWeaveWarning(core.shadowed_plugins), stacklevel=2)
    catalog = load_installation().catalog
    folder = model_folder(Path(source).expanduser(), catalog.models)
    if not folder.exists() and is_hub_id(str(source)):
        folder = fetched(str(source), download=download, revision=revision)
    return Model(open_model(folder, catalog, device))


class Model:
    """A trained model; see `load`.

    Inputs are by modality: a text, a path, an array in original units, or a `core.api.Sample` with its geometry. A
    string that names no file is a text.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @property
    def outputs(self) -> tuple[str, ...]:
        """The modalities that it makes."""
        return self.bundle.run.outputs

    def generate(
        self,
        prompts: Mapping[str, InputValue] | None = None,
        conditions: Mapping[str, InputValue] | None = None,
        outputs: Sequence[str] | None = None,
        *,
        num: int = 1,
        seed: int = 0,
        negative_prompts: Mapping[str, InputValue] | None = None,
        prompt_weights: Mapping[str, float] | None = None,
        coupling: Coupling = "auto",
        batch: int = 16,
        callback: Callable[[SamplingStep], None] | None = None,
        **sampler: Any,
    ) -> list[Study]:
        """Return ``num`` studies: every output of the model that is not given, or ``outputs`` alone.

        A prompt describes the study, a condition is part of it. Study ``i`` depends on the inputs, ``seed`` and ``i``,
        not on ``num``; ``batch`` studies are computed at once. ``callback`` is called after every sampling step.
        ``sampler``: fields of `SamplerChoice` that differ from the run's, as ``steps=50`` or ``scale={"ct": 4}``.

        Raises `UserError` for a wrong input, before the first step.
        """
        if num < 1 or batch < 1 or seed < 0:
            raise UserError(f"num {num}, batch {batch}, seed {seed}: num and batch are 1 or more, seed 0 or more")
        given = conditions or {}
        require_weights(prompt_weights or {}, prompts or {})
        request = GenerationRequest(
            outputs=tuple(outputs) if outputs is not None else tuple(n for n in self.outputs if n not in given),
            sampler=self._sampler(sampler),
            prompts=prompts or {},
            given=given,
            negative=negative_prompts or {},
            prompt_weights=prompt_weights or {},
            num=num,
            seed=seed,
            batch=batch,
            coupling=coupling,
        )
        resolved = resolve_request(self.bundle, request)
        return [study for indices in in_batches(num, batch) for study in self._batch(resolved, indices, callback)]

    def _batch(
        self, resolved: ResolvedRequest, indices: Sequence[int], callback: Callable[[SamplingStep], None] | None
    ) -> Iterator[Study]:
        def watch(step: int, steps: int, latents: Mapping[str, Tensor]) -> None:
            assert callback is not None  # noqa: S101 - it is not watched otherwise
            callback(SamplingStep(step=step, steps=steps, indices=indices, latents=latents, bundle=self.bundle))

        batches = generate_batches(
            [StudyRequest(resolved, index) for index in indices], None if callback is None else watch
        )
        for row, index in enumerate(indices):
            samples = study_samples(resolved, batches, row)
            yield Study(index, samples, shown_samples(samples, batches, row), resolved)

    def _sampler(self, changes: Mapping[str, Any]) -> SamplerChoice:
        from pydantic import ValidationError

        run = self.bundle.run.config.sampler
        if changes.get("solver", "ddim") != "ddim":
            changes = {"eta": 0.0, **changes}
        try:
            chosen = SamplerChoice.model_validate({**run.model_dump(), **changes})
        except ValidationError as error:
            raise format_validation_error(error, SamplerChoice, "generate") from None
        config = self.bundle.run.config
        return expanded_sampler(chosen, self.bundle.run.modalities, config.aliases, config.align.centre)

    def embed(self, modality: str, values: InputValue | Sequence[InputValue]) -> np.ndarray:
        """Return the vectors of inputs in the shared space, float32 ``input width``, each of unit norm (method E1).

        Raises `UserError` where the model has no trained encoder of the modality.
        """
        if modality not in self.bundle.run.flows.union.modalities:
            raise unknown_name("modality of this model", modality, self.bundle.run.flows.union.modalities)
        if not self.bundle.has_trained_prompt_encoder(modality):
            raise UserError(f"'{modality}' has no trained encoder in this model: its flow does not align it")
        inputs = [values] if isinstance(values, str | Path | np.ndarray | Sample) else values
        batches = [read_input(self.bundle, "embed", modality, value, keep=False).batch for value in inputs]
        rows = [self._pooled(modality, batches[start : start + _ROWS]) for start in range(0, len(batches), _ROWS)]
        return np.concatenate(rows)

    def _pooled(self, modality: str, batches: Sequence[Batch]) -> np.ndarray:
        samples = [sample for batch in batches for sample in uncollate(batch)]
        batch = collate(samples, self.bundle.run.parts(modality).data)
        with torch.no_grad():
            encoder = self.bundle.part(modality, "prompt").eval()
            return encoder(self.bundle.networks.compute.to_device(batch)).pooled.float().cpu().numpy()

    def retrieve(self, query: np.ndarray, index: np.ndarray, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the ``k`` nearest rows of an index, nearest first, and their cosines.

        ``query`` ``query width`` or ``width``, and ``index`` ``entry width``, as `embed` returns them, of any two
        modalities. Both results are ``query k``, or ``k`` for a single query.
        """
        queries = np.atleast_2d(query)
        if queries.shape[-1] != index.shape[-1] or not 1 <= k <= len(index):
            raise UserError(
                f"retrieve: {k} of an index {index.shape} for a query {query.shape}; give vectors of one width, and k"
                " up to the number of entries"
            )
        cosines = queries @ index.T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        result = nearest, np.take_along_axis(cosines, nearest, axis=1)
        return result if query.ndim > 1 else (result[0][0], result[1][0])

    def describe(self) -> ModelDescription:
        """Return what the model makes, and from what; prints as a table."""
        return ModelDescription({name: self._describe(name) for name in self.outputs})

    def _describe(self, output: str) -> OutputDescription:
        bundle, run = self.bundle, self.bundle.run
        able = [name for name in run.flows.union.modalities if bundle.has_trained_prompt_encoder(name)]
        read = route_prompts(bundle, output, able)
        sources = run.prompt_sources(output)
        return OutputDescription(
            title=run.modalities[output].title,
            prompts=tuple(name for name in read if name in sources),
            unpaired_prompts=tuple(name for name in read if name not in sources),
            partners=tuple(
                other for pair in bundle.trained_pairs if output in pair for other in pair if other != output
            ),
        )

    def __repr__(self) -> str:
        return f"<Model {self.bundle.run.config.run.resolve().name}: {', '.join(self.outputs)}>"
