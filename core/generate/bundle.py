"""A trained model: every network of a run, and what was measured with it.

A run folder opened for generation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config.run_config import RunConfig
from core.config.toml import read_toml
from core.contract.modality import Modality
from core.diffuse.prompts import PromptAssembly
from core.engine.distributed import Compute
from core.errors import UserError, format_validation_error
from core.flow.rounds import weight_sets
from core.flow.run import Run, start_run
from core.generate.coupling import Listening
from core.generate.networks import Networks, homes_of
from core.guide.attention import GuidanceSites, attach_guidance
from core.guide.context_encoder import Environment, new_environment
from core.types import LatentSpec


class Bundle:
    """The networks of a run by modality and part: made on first use, trained where a stage has trained them."""

    def __init__(self, run: Run, networks: Networks) -> None:
        self.run, self.networks = run, networks

    def part(self, modality: str, part: str) -> Any:
        """The network of a part of a modality."""
        return self.networks.of(self.key(modality, part))

    def key(self, modality: str, part: str) -> str:
        """The weight set of a part of a modality."""
        return self.run.parts(modality).weight_key(modality, part)

    def latent_spec(self, modality: str) -> LatentSpec:
        """Shape and measured scale of a modality's latents; `UserError` where the run has not measured them."""
        found = self.networks.about(self.key(modality, "autoencoder")).get("latents", {}).get(modality)
        if found is None:
            raise UserError(
                f"'{modality}' has no latent scale yet: run the phase 'autoencoder' too (--phase autoencoder,...)"
            )
        tuples = {key: tuple(found[key]) for key in ("space", "scale", "shift")}
        return LatentSpec(**{**found, **tuples})

    def assembly(self, modality: str) -> Any:
        """What turns prompts into the conditioning of a modality's denoiser; trained with it."""
        width = self.part(modality, "denoiser").prompt_width
        make = partial(PromptAssembly, width, self.run.prompt_sources(modality))
        return self.networks.of(assembly_key(modality), make)

    def mean_prompt(self, modality: str) -> tuple[float, ...]:
        """The mean pooled vector of a modality's training studies (METHOD E6b); empty where the run has none."""
        found = self.networks.about(self.key(modality, "prompt")).get("means", {})
        return tuple(found.get(modality, ()))

    def environment(self, modality: str) -> Environment:
        """The context encoder V of a modality (METHOD E13)."""
        return self.networks.of(f"context.{modality}", partial(self._new_environment, modality))

    def sites(self, modality: str) -> GuidanceSites:
        """The context attention in a modality's denoiser, attached on first use (METHOD E13)."""
        return self.networks.of(f"sites.{self.key(modality, 'denoiser')}", partial(self._attached, modality))

    def guidance(self, key: str) -> Any:
        """What phase ``guide`` trains under ``context.<modality>`` or ``sites.<denoiser weight set>``."""
        kind, _, whose = key.partition(".")
        if kind == "context":
            return self.environment(whose)
        owners = self.networks.sets[whose].owners
        return self.sites(owners[0])

    def coupled(self, modality: str) -> bool:
        """Whether the denoiser of a modality has learned to listen, and its context encoder to tell."""
        sites = f"sites.{self.key(modality, 'denoiser')}"
        return self.networks.trained(sites) and self.networks.trained(f"context.{modality}")

    @property
    def trained_pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of outputs that phase ``guide`` has really coupled, in the order of its flow (METHOD E15)."""
        learned: set[frozenset[str]] = set()
        for name in (name for name in self.run.outputs if self.coupled(name)):
            found = self.networks.about(f"context.{name}").get("pairs", ())
            learned |= {frozenset(pair) for pair in found}
        pairs = dict.fromkeys(pair for edge in self.run.flows.guide.edges for pair in edge.coupled)
        return tuple(pair for pair in pairs if frozenset(pair) in learned)

    def helps(self, receiver: str, sender: str) -> bool:
        """Whether validation studies have shown a trained partner to help; true where they were too few to tell."""
        known = [
            Listening(*found)
            for name in (receiver, sender)
            if self.coupled(name)
            for found in self.networks.about(f"context.{name}").get("listening", ())
        ]
        decided = [one.helps for one in known if (one.receiver, one.sender) == (receiver, sender)]
        return all(decided)

    def may_prompt(self, modality: str) -> bool:
        """Whether prompts of a modality mean something: it has an encoder, and a stage has trained it."""
        return self.run.parts(modality).prompt is not None and self.networks.trained(self.key(modality, "prompt"))

    def _new_environment(self, modality: str) -> Environment:
        parts, width = self.run.parts(modality), self._context_width(modality)
        prompt = width if parts.prompt is None else self.part(modality, "prompt").width
        spec, geometry = self.part(modality, "autoencoder").spec, parts.data.default_geometry
        return new_environment(self.run.config.guide, spec, geometry, width=width, prompt_width=prompt)

    def _attached(self, modality: str) -> GuidanceSites:
        # Of a denoiser that several modalities share, the first owner's: whoever asks first must not matter.
        owner = self.networks.sets[self.key(modality, "denoiser")].owners[0]
        geometry = self.run.parts(owner).data.default_geometry
        denoiser = self.part(modality, "denoiser")
        return attach_guidance(denoiser, geometry, context_width=self._context_width(modality))

    def _context_width(self, modality: str) -> int:
        """Contexts of partners are joined, so all have one width: that of the shared space."""
        return int(self.part(modality, "denoiser").prompt_width)


def assembly_key(modality: str) -> str:
    """The name under which a prompt assembly is kept."""
    return f"{modality}.prompt_assembly"


def open_bundle(
    folder: Path,
    modalities: Mapping[str, Modality],
    broken: Mapping[str, Exception] | None = None,
    device: str = "auto",
) -> Bundle:
    """The networks of the stages that a run folder has finished.

    Raises `UserError` where it is no run folder, nothing in it is finished, or its modalities are not installed.
    """
    config = read_config(folder)
    run = start_run(config, modalities, broken)
    homes = homes_of(_progress(folder), folder)
    sets = weight_sets(run.flows.union.modalities, run.modalities, config.preset)
    return Bundle(run, Networks(sets, homes, folder, config.seed, Compute(device)))


def read_config(folder: Path) -> RunConfig:
    """The configuration that a run folder was started with."""
    path = folder / "config.toml"
    if not path.is_file():
        raise UserError(
            f"{folder}: is no run folder (it has no config.toml); name one with --run, or train one:"
            " python -m core.train --flow ..."
        )
    try:
        config = RunConfig.model_validate(read_toml(path))
    except ValidationError as error:
        raise format_validation_error(error, RunConfig, str(path)) from None
    return config.model_copy(update={"run": folder})


def _progress(folder: Path) -> Any:
    path = folder / "progress.json"
    if not path.is_file():
        raise UserError(f"{folder}: no stage of this run is finished yet; go on with it: --run {folder}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error}); restore it, or train again in another folder") from error
