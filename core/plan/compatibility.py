"""Check that the parts of a run fit each other: latents and denoisers, prompts and denoisers, prompts of a pair."""

from __future__ import annotations

from typing import Any

from core.contract.build import MissingPackageError, build_part
from core.contract.modality import pretrained_objective
from core.errors import UserError
from core.flow.run import Run
from core.plan.costs import NOT_COUNTABLE, build_on_meta


def require_compatible(run: Run) -> None:
    """Build every part of a run without memory and compare sizes, before the first step.

    `UserError` names the modality, both sizes and what to set, or says which part cannot be built.
    """
    parts = _Built(run)
    phases = run.config.phases.run
    if "autoencoder" in phases or "diffuse" in phases:
        for name in run.outputs:
            parts.require_latents(name)
    if "diffuse" in phases:
        for name in run.outputs:
            parts.require_prompts(name)
            parts.require_objective(name)
    for pair in (pair for item in run.rounds["guide"] for pair in item.edge.coupled) if "guide" in phases else ():
        parts.require_same_context_width(*pair)
    for pair in (pair for item in run.rounds["align"] for pair in item.edge.pairs) if "align" in phases else ():
        parts.require_same_prompt_width(*pair)


class _Built:
    """The parts of a run, each weight set built once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._cache: dict[str, Any] = {}

    def require_latents(self, name: str) -> None:
        """Raise `UserError` where the denoiser is built for other latents than those of the autoencoder."""
        spec, expected = self.read(name, "autoencoder", "spec"), self.read(name, "denoiser", "latent_shape")
        latents = (spec.channels, *spec.space)
        if tuple(expected) != latents:
            raise UserError(
                f"'{name}': its denoiser is built for latents {tuple(expected)}, its autoencoder makes {latents}"
                f" (channels, then sides); make the settings of {name}.denoiser and {name}.autoencoder agree"
            )

    def require_prompts(self, name: str) -> None:
        """Raise `UserError` where the denoiser takes prompts of another width than those of its neighbours.

        Encoders that are given have the widths that they have; the prompt assembly fits them to the denoiser.
        """
        if self.run.config.align.encoders == "given":
            return
        expected = self.read(name, "denoiser", "prompt_width")
        for source in self.run.prompt_sources(name):
            width = self.read(source, "prompt", "width")
            if width != expected:
                raise UserError(
                    f"'{name}': its denoiser takes prompts of width {expected}, the prompt encoder of '{source}' gives"
                    f" {width}; set {name}.denoiser.prompt_width, or the width of {source}.prompt"
                )

    def require_objective(self, name: str) -> None:
        """Raise `UserError` where the denoiser was pretrained to predict something else (method E10)."""
        trained, chosen = pretrained_objective(self.built(name, "denoiser")), self.run.config.diffuse.objective
        if trained not in (None, chosen):
            raise UserError(
                f"'{name}': its denoiser was pretrained to predict '{trained}' (scheduler/scheduler_config.json of"
                f" init_from), but diffuse.objective is '{chosen}'; set diffuse.objective to '{trained}', or leave"
                f" {name}.denoiser.init_from out"
            )

    def require_same_context_width(self, first: str, second: str) -> None:
        """Raise `UserError` where two partners have contexts of different widths, because they are concatenated.

        A context is as wide as the prompts of the denoiser.
        """
        widths = [self.read(name, "denoiser", "prompt_width") for name in (first, second)]
        if widths[0] != widths[1]:
            raise UserError(
                f"'{first}' and '{second}' cannot be coupled: their denoisers take prompts of the widths {widths[0]}"
                f" and {widths[1]}; make {first}.denoiser.prompt_width and {second}.denoiser.prompt_width equal"
            )

    def require_same_prompt_width(self, first: str, second: str) -> None:
        """Raise `UserError` where two modalities that are aligned have prompts of different widths."""
        widths = [self.read(name, "prompt", "width") for name in (first, second)]
        if widths[0] != widths[1]:
            raise UserError(
                f"'{first}' and '{second}' cannot be aligned: their prompt encoders have the widths {widths[0]} and"
                f" {widths[1]}; make the settings of {first}.prompt and {second}.prompt agree"
            )

    def read(self, name: str, part: str, attribute: str) -> Any:
        """Return an attribute of a part; `UserError` where the part lacks it."""
        built = self.built(name, part)
        if not hasattr(built, attribute):
            kind, key = type(built).__name__, self.run.parts(name).weight_key(name, part)
            raise UserError(
                f"part '{key}' of '{name}': {kind} has no '{attribute}', which the contract requires; see python -m"
                f" core.check {name}"
            )
        return getattr(built, attribute)

    def built(self, name: str, part: str) -> Any:
        """Return a part of a modality."""
        key = self.run.parts(name).weight_key(name, part)
        if key not in self._cache:
            self._cache[key] = self._build(key)
        return self._cache[key]

    def _build(self, key: str) -> Any:
        weights = self.run.weight_sets[key]
        try:
            return build_on_meta(weights.config, key, weights.owners)
        except MissingPackageError:
            raise
        except NOT_COUNTABLE:
            # A part that computes while it is built needs memory for that; its errors then name the real cause.
            return build_part(weights.config, key, weights.owners)
