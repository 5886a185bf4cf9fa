"""Whether the parts of a run fit each other: latents and denoisers, prompts and denoisers, prompts of a pair."""

from __future__ import annotations

from typing import Any

from core.contract.build import MissingPackageError, build_part
from core.errors import UserError
from core.flow.run import Run
from core.plan.costs import NOT_COUNTABLE, build_on_meta


def require_compatible(run: Run) -> None:
    """Build every part of a run without memory, and compare; before the first step, so that nothing is half-done.

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
    for pair in (pair for one in run.rounds["guide"] for pair in one.edge.coupled) if "guide" in phases else ():
        parts.require_one_context(*pair)
    for pair in (pair for one in run.rounds["align"] for pair in one.edge.pairs) if "align" in phases else ():
        parts.require_one_space(*pair)


class _Built:
    """The parts of a run, each weight set made once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._made: dict[str, Any] = {}

    def require_latents(self, name: str) -> None:
        """The denoiser was built for the latents that the autoencoder makes."""
        spec, found = self.read(name, "autoencoder", "spec"), self.read(name, "denoiser", "latent_shape")
        wanted = (spec.channels, *spec.space)
        if tuple(found) != wanted:
            raise UserError(
                f"'{name}': its denoiser is built for latents {tuple(found)}, its autoencoder makes {wanted} (channels,"
                f" then sides); make the settings of {name}.denoiser and {name}.autoencoder agree"
            )

    def require_prompts(self, name: str) -> None:
        """The denoiser takes prompts of the width that the encoders of its neighbours give."""
        wanted = self.read(name, "denoiser", "prompt_width")
        for source in self.run.prompt_sources(name):
            found = self.read(source, "prompt", "width")
            if found != wanted:
                raise UserError(
                    f"'{name}': its denoiser takes prompts of width {wanted}, the prompt encoder of '{source}' gives"
                    f" {found}; set {name}.denoiser.prompt_width, or the width of {source}.prompt"
                )

    def require_one_context(self, first: str, second: str) -> None:
        """Contexts are as wide as the prompts that a denoiser takes, and partners' contexts are joined."""
        widths = [self.read(name, "denoiser", "prompt_width") for name in (first, second)]
        if widths[0] != widths[1]:
            raise UserError(
                f"'{first}' and '{second}' cannot be coupled: their denoisers take prompts of the widths {widths[0]}"
                f" and {widths[1]}; make {first}.denoiser.prompt_width and {second}.denoiser.prompt_width equal"
            )

    def require_one_space(self, first: str, second: str) -> None:
        """Prompts that are aligned have one width."""
        widths = [self.read(name, "prompt", "width") for name in (first, second)]
        if widths[0] != widths[1]:
            raise UserError(
                f"'{first}' and '{second}' cannot be aligned: their prompt encoders have the widths {widths[0]} and"
                f" {widths[1]}; make the settings of {first}.prompt and {second}.prompt agree"
            )

    def read(self, name: str, part: str, attribute: str) -> Any:
        """What a part says of itself; `UserError` where it does not."""
        key = self.run.parts(name).weight_key(name, part)
        if key not in self._made:
            self._made[key] = self._make(key)
        if not hasattr(self._made[key], attribute):
            kind = type(self._made[key]).__name__
            raise UserError(
                f"part '{key}' of '{name}': {kind} has no '{attribute}', which the contract asks for; see python -m"
                f" core.check {name}"
            )
        return getattr(self._made[key], attribute)

    def _make(self, key: str) -> Any:
        weights = self.run.weight_sets[key]
        try:
            return build_on_meta(weights.config, key, weights.owners)
        except MissingPackageError:
            raise
        except NOT_COUNTABLE:
            # What computes while it is built cannot do so without memory, and says in earnest what is wrong.
            return build_part(weights.config, key, weights.owners)
