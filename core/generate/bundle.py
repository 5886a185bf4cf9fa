"""A trained model: the networks of a run folder, and what its stages recorded with them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from core.config.prompt import NullPrompt
from core.config.run_config import RunConfig
from core.config.toml import read_toml
from core.contract.modality import Modality, pooled_width, token_width
from core.diffuse.prompts import CentredPromptEncoder, PromptAssembly
from core.engine.distributed import Compute, resolve_device
from core.errors import MedWeaveWarning, UserError, format_validation_error
from core.flow.rounds import assembly_key, modality_of_assembly
from core.flow.run import Run, start_run
from core.generate.networks import Networks, homes_of, read_progress, require_recorded_weights
from core.guide.attention import GuidanceSites, attach_guidance
from core.guide.context_encoder import ContextEncoder, new_context_encoder
from core.nn.attention import usable
from core.preprocess.collate import empty_input
from core.types import LatentSpec, Prompt

BUNDLE = "bundle.json"  # in a folder that `core.export` has written
BUNDLE_VERSION = 1


class CouplingDecision(NamedTuple):
    """Whether ``receiver`` reads the context of ``sender`` by default, decided on validation studies (method F4)."""

    receiver: str
    sender: str
    used: bool


class Bundle:
    """The networks of a run by modality and part: built on first use, with trained weights where a stage left them.

    ``findings_of``: the labeller of the data that the run was trained on, where they have one.
    """

    def __init__(
        self, run: Run, networks: Networks, findings_of: Callable[[str], Mapping[str, int]] | None = None
    ) -> None:
        self.run, self.networks, self.findings_of = run, networks, findings_of

    def part(self, modality: str, part: str) -> Any:
        """Return the network of a part of a modality."""
        return self.networks.of(self.key(modality, part))

    def key(self, modality: str, part: str) -> str:
        """Return the weight set of a part of a modality."""
        return self.run.parts(modality).weight_key(modality, part)

    def latent_spec(self, modality: str) -> LatentSpec:
        """Return shape and measured scale of a modality's latents.

        Raises `UserError` where the run has not measured them, and where the record is no such scale.
        """
        recorded = self.networks.about(self.key(modality, "autoencoder")).get("latents", {}).get(modality)
        if recorded is None:
            raise UserError(
                f"'{modality}' has no latent scale yet: run the phase 'autoencoder' too (--phase autoencoder,...)"
            )
        return _recorded_spec(modality, recorded)

    def assembly(self, modality: str) -> Any:
        """Return the module that turns prompts into the conditioning of a modality's denoiser; trained with it."""
        return self.networks.of(assembly_key(modality), partial(self._new_assembly, modality))

    def prompt_encoder(self, modality: str) -> CentredPromptEncoder:
        """Return the prompt encoder of a modality as denoisers read it, without the mean of the modality (E6b)."""
        encoder = CentredPromptEncoder(self.part(modality, "prompt"), self.mean_prompt(modality))
        return self.networks.compute.to_device(encoder)

    def mean_prompt(self, modality: str) -> tuple[float, ...]:
        """Return the mean pooled vector of a modality's training studies (method E6b); empty where the run has none."""
        means = self.networks.about(self.key(modality, "prompt")).get("means", {})
        return tuple(means.get(modality, ()))

    def _new_assembly(self, modality: str) -> PromptAssembly:
        denoiser, choice = self.part(modality, "denoiser"), self.run.config.prompt
        encoders = {name: self.prompt_encoder(name).eval() for name in self.run.prompt_sources(modality)}
        owners = self.networks.sets[self.key(modality, "denoiser")].owners
        return PromptAssembly(
            denoiser.prompt_width,
            {name: encoder.token_width for name, encoder in encoders.items()},
            choice.form,
            shared_width=next((encoder.width for encoder in encoders.values()), None),
            pooled_width=pooled_width(denoiser),
            empty={} if choice.null == "learned" else self._empty_prompts(encoders, choice.null),
            typed=len(set(owners) & set(self.run.outputs)) > 1,
        )

    def _empty_prompts(self, encoders: Mapping[str, CentredPromptEncoder], null: NullPrompt) -> dict[str, Prompt]:
        """Return the prompt of an empty input of each source or, with ``empty_text``, of the texts among them."""
        texts = [name for name in encoders if self.run.parts(name).data.kind == "tokens"]
        chosen = texts if null == "empty_text" and texts else list(encoders)
        to_device = self.networks.compute.to_device
        with torch.no_grad():
            return {name: encoders[name](to_device(empty_input(name, self.run.parts(name)))) for name in chosen}

    def context_encoder(self, modality: str) -> ContextEncoder:
        """Return the context encoder V of a modality (method E13)."""
        return self.networks.of(f"context.{modality}", partial(self._new_context_encoder, modality))

    def sites(self, modality: str) -> GuidanceSites:
        """Return the context attention in a modality's denoiser, attached on first use (method E13)."""
        return self.networks.of(f"sites.{self.key(modality, 'denoiser')}", partial(self._attached, modality))

    def guidance(self, key: str) -> Any:
        """Return what phase ``guide`` trains as a weight set (`core.flow.rounds`).

        That is ``context.<modality>``, ``sites.<denoiser weight set>``, a denoiser or a prompt assembly.
        """
        kind, _, name = key.partition(".")
        if kind == "context":
            return self.context_encoder(name)
        if kind == "sites":
            return self.sites(self.networks.sets[name].owners[0])
        return self.networks.of(key) if key in self.networks.sets else self.assembly(modality_of_assembly(key))

    def coupled(self, modality: str) -> bool:
        """Return whether context attention and context encoder of a modality are trained."""
        sites = f"sites.{self.key(modality, 'denoiser')}"
        return self.networks.trained(sites) and self.networks.trained(f"context.{modality}")

    @property
    def trained_pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of outputs that phase ``guide`` has trained together, in flow order (method E15)."""
        learned: set[frozenset[str]] = set()
        for name in (name for name in self.run.outputs if self.coupled(name)):
            recorded = self.networks.about(f"context.{name}").get("pairs", ())
            learned |= {frozenset(pair) for pair in recorded}
        pairs = dict.fromkeys(pair for step in self.run.rounds["guide"] for pair in step.edge.coupled)
        unique = {frozenset(pair): pair for pair in reversed(pairs)}  # the earliest round decides the order of a pair
        return tuple(pair for pair in pairs if frozenset(pair) in learned and unique[frozenset(pair)] == pair)

    def uses(self, receiver: str, sender: str) -> bool:
        """Return whether no validation result speaks against a trained partner; true where none was measured."""
        recorded = [
            CouplingDecision(*values)
            for name in (receiver, sender)
            if self.coupled(name)
            for values in self.networks.about(f"context.{name}").get("listening", ())
        ]
        return all(each.used for each in recorded if (each.receiver, each.sender) == (receiver, sender))

    def has_trained_prompt_encoder(self, modality: str) -> bool:
        """Return whether a modality can be a prompt: it has a prompt encoder, and a stage has trained it."""
        return self.run.parts(modality).prompt is not None and self.networks.trained(self.key(modality, "prompt"))

    def _new_context_encoder(self, modality: str) -> ContextEncoder:
        parts, width = self.run.parts(modality), self._context_width(modality)
        prompt = width if parts.prompt is None else token_width(self.part(modality, "prompt"))
        spec, geometry = self.part(modality, "autoencoder").spec, parts.data.default_geometry
        return new_context_encoder(self.run.config.guide, spec, geometry, width=width, prompt_width=prompt)

    def _attached(self, modality: str) -> GuidanceSites:
        # A denoiser that several modalities share gets the first owner's sites, whichever modality attaches first.
        owner = self.networks.sets[self.key(modality, "denoiser")].owners[0]
        geometry = self.run.parts(owner).data.default_geometry
        denoiser, guide = self.part(modality, "denoiser"), self.run.config.guide
        sites = attach_guidance(denoiser, geometry, **guide.site_widths(self._context_width(modality)))
        if not sites:
            message = (
                f"{modality}: no site of its denoiser reads what partners send with guide.aligned = '{guide.aligned}':"
                " nothing guides it; give it residual sites, or set guide.aligned = 'beside'"
            )
            warnings.warn(MedWeaveWarning(message), stacklevel=2)
        return sites

    def _context_width(self, modality: str) -> int:
        """Return the one width of all contexts, which are joined: that of the shared space."""
        return int(self.part(modality, "denoiser").prompt_width)


def _recorded_spec(modality: str, recorded: Mapping[str, Any]) -> LatentSpec:
    try:
        tuples = {key: tuple(recorded[key]) for key in ("space", "scale", "shift")}
        spec = LatentSpec(**{**recorded, **tuples})
        numbers = torch.tensor([spec.scale, spec.shift], dtype=torch.float64)
        usable = numbers.shape == (2, spec.channels) and numbers.isfinite().all() and (numbers[0] > 0).all()
    except (KeyError, TypeError, ValueError):
        usable, spec = False, None
    if not usable or spec is None:
        raise UserError(
            f"'{modality}': the run records no usable scale of its latents ({str(recorded)[:120]}); train its phase"
            " 'autoencoder' again, or restore the run"
        )
    return spec


def open_bundle(
    folder: Path,
    modalities: Mapping[str, Modality],
    broken: Mapping[str, Exception] | None = None,
    device: str = "auto",
) -> Bundle:
    """Open a run folder: the networks of the stages that it has finished.

    Raises `UserError` where it is no run folder, no stage is finished, or its modalities are not installed.
    """
    config = read_config(folder)
    _require_known_version(folder)
    run = start_run(config, modalities, broken)
    progress = read_progress(folder)
    if progress is None:
        raise UserError(f"{folder}: no stage of this run is finished yet; resume it: --run {folder}")
    homes = homes_of(progress, folder)
    require_recorded_weights(progress, folder)
    compute = Compute(device, usable(config.attention, resolve_device(device)))
    return Bundle(run, Networks(run.weight_sets, homes, folder, config.seed, compute))


def _require_known_version(folder: Path) -> None:
    """Raise `UserError` for a bundle that a later version has written, or whose description is damaged."""
    path = folder / BUNDLE
    if not path.is_file():
        return
    try:
        version = json.loads(path.read_text(encoding="utf-8"))["bundle"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged ({type(error).__name__}); copy the bundle again") from error
    if version != BUNDLE_VERSION:
        raise UserError(
            f"{path}: is a bundle of version {str(version)[:20]}, this MedWeave reads version {BUNDLE_VERSION}; install"
            " a later medweave"
        )


def read_config(folder: Path) -> RunConfig:
    """Return the configuration that a run folder was started with."""
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
