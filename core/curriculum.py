"""Runs the phases of a run in their order: autoencoder, align, diffuse."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.align.train import train_round
from core.config import to_toml
from core.diffuse.train import train_denoiser
from core.encode.latents import scaled
from core.encode.train import latent_means, measure_scale, train_autoencoder
from core.engine.log import RunLog
from core.engine.seed import derived_seed
from core.engine.weights import replace_file, save_weights
from core.errors import PlainWarning, UserError
from core.evaluate.retrieval import recall_at
from core.modality import DatasetAdapter
from core.pools import dealt, visible
from core.preprocess.studies import Studies
from core.registry import Registry
from core.rounds import WeightSet, weight_sets
from core.run import Run
from core.types import LatentSpec, Record

_TRAINABLE = ("autoencoder", "align", "diffuse")


@dataclass(frozen=True)
class Line:
    """A row of the final table: what was measured, on held-out studies, beside its chance level or start."""

    phase: str
    what: str
    value: float
    beside: str


class Curriculum:
    """One run on its way: studies, modules and latent scales by the keys of their weight sets."""

    def __init__(self, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> None:
        self.run, self.folder = run, run.config.run
        self.sets = weight_sets(run.flows.union.modalities, run.modalities, run.config.preset)
        self.parts = {name: run.parts(name) for name in run.flows.union.modalities}
        records = [record for name in run.config.data.names for record in _records(name, run, registry, datasets)]
        self.training, self.held_out = (self._studies(records, split) for split in ("train", "validation"))
        self.modules: dict[str, Any] = {}
        self.specs: dict[str, LatentSpec] = {}

    def train(self) -> list[Line]:
        """Run every phase of the run and return the final table."""
        prepare_folder(self.run)
        self.log = RunLog(self.folder / "metrics.jsonl")
        table: list[Line] = []
        for phase in self.run.config.phases.run:
            if phase not in _TRAINABLE:
                warnings.warn(
                    PlainWarning(f"phase '{phase}' is not in this version of MedWeave; it is left out"), stacklevel=2
                )
                continue
            table += getattr(self, phase)()
        return table

    def autoencoder(self) -> list[Line]:
        """Each weight set on the union of its data, then the scale of each owner's latents."""
        lines = []
        for weights in self.run.once("autoencoder"):
            module = self.module(weights.key)
            train_autoencoder(
                weights.key, module, weights.owners, self.training, self.run.config.training.autoencoder,
                seed=self.run.config.seed, log=self.log,
            )  # fmt: skip
            for name in weights.owners:
                self.specs[name] = measure_scale(module, name, self.training)
                lines.append(
                    Line("autoencoder", f"{name}: mean absolute error, held out", self._error(module, name), "")
                )
            self._save("autoencoder", weights, {name: self.specs[name].__dict__ for name in weights.owners})
        return lines

    def align(self) -> list[Line]:
        """The rounds of the align flow, earlier weight sets frozen."""
        lines = []
        for one in self.run.rounds("align"):
            pairs = one.edge.pairs
            encoders = {name: self.module(self.parts[name].weight_key(name, "prompt")) for name in one.modalities}
            train_round(
                f"{one.index} {one.edge.text}", encoders, list(map(self.module, one.trains)), pairs, self.training,
                self.run.config.training.align, temperature=self.run.config.align.temperature,
                seed=self.run.config.seed, log=self.log,
            )  # fmt: skip
            for key in one.trains:
                self._save("align", self.sets[key], {})
            lines += [self._retrieval(*pair) for pair in pairs]
        return lines

    def diffuse(self) -> list[Line]:
        """Each output's denoiser, prompted by its neighbours in the flow."""
        from core.diffuse.prompts import PromptAssembly

        lines = []
        for weights in self.run.once("diffuse"):
            for name in weights.owners:
                sources = self.run.prompt_sources(name)
                encoders = {source: self.module(self.parts[source].weight_key(source, "prompt")) for source in sources}
                denoiser = self.module(weights.key)
                assembly = self._seeded(f"assembly {name}", partial(PromptAssembly, denoiser.prompt_width, sources))
                losses = train_denoiser(
                    name, denoiser, assembly, self._latents(name), encoders, self.training,
                    self.run.config.training.diffuse, drop=self.run.config.prompt.drop,
                    seed=self.run.config.seed, log=self.log,
                )  # fmt: skip
                save_weights(assembly, self.folder / "diffuse" / f"{name}.prompt_assembly", {"sources": list(sources)})
                tenth = max(1, len(losses) // 10)
                first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
                lines.append(Line("diffuse", f"{name}: training loss, last tenth", last, f"first tenth {first:.4f}"))
            self._save("diffuse", weights, {})
        return lines

    def module(self, key: str) -> Any:
        """The module of a weight set, made once with seeded weights."""
        if key not in self.modules:
            self.modules[key] = self._seeded(key, self.sets[key].config.build)
        return self.modules[key]

    def _seeded(self, purpose: str, make: Any) -> Any:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.run.config.seed, "weights", purpose))
            return make()

    def _studies(self, records: Sequence[Record], split: str) -> Studies:
        chosen = [record for record in records if record.split == split]
        flow, pools = self.run.flows.align, self.run.config.data.pools
        return Studies(chosen, [visible(record, flow, pools) for record in chosen], self.parts)

    def _save(self, phase: str, weights: WeightSet, latents: Mapping[str, Any]) -> None:
        about = {"weight_set": weights.key, "modalities": list(weights.owners), "latents": dict(latents)}
        save_weights(self.module(weights.key), self.folder / phase / weights.key, about)

    def _latents(self, name: str) -> dict[int, Any]:
        """Scaled latents by study; the run must have measured the scale."""
        spec = self.specs.get(name)
        if spec is None:
            raise UserError(
                f"'{name}' has no latent scale yet: run the phase 'autoencoder' too (--phase autoencoder,...)"
            )
        places = self.training.require(name)
        module = self.module(self.parts[name].weight_key(name, "autoencoder"))
        means = (row for batch in latent_means(module, name, places, self.training) for row in scaled(batch, spec))
        return dict(zip(places, means, strict=True))

    def _error(self, module: Any, name: str) -> float:
        import torch

        batch = self.held_out.batch(name, self.held_out.having(name))
        with torch.no_grad():
            return float((module.decode(module.encode(batch).mean).data - batch.data).abs().float().mean())

    def _retrieval(self, first: str, second: str) -> Line:
        import torch

        places = self.held_out.having(first, second)
        pooled = []
        for name in (first, second):
            encoder = self.module(self.parts[name].weight_key(name, "prompt")).eval()
            with torch.no_grad():
                pooled.append(encoder(self.held_out.batch(name, places)).pooled)
        found = recall_at(*pooled, k=5)
        return Line("align", f"{first} finds {second}: R@5, held out", found, f"chance {5 / max(5, len(places)):.3f}")


def _records(name: str, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter]) -> list[Record]:
    """The records of one data set; a computed cohort is made where it is missing."""
    source = registry.data_source(name, datasets)
    if not source.root.is_dir():
        if source.adapter.make is None:
            raise UserError(
                f"data set '{name}': no folder {source.root}; set datasets.{name}.root in registry.local.toml"
            )
        source.adapter.make(source.root)
    records = list(source.adapter.scan(source.root))
    if source.entry.deal and run.config.data.pools == "disjoint":
        return dealt(records, run.flows.align, run.config.seed)
    return [replace(record, pool=None) for record in records]


def prepare_folder(run: Run) -> Path:
    """Make the run folder with its configuration and versions; an existing run is not touched."""
    folder = run.config.run
    if (folder / "config.toml").exists():
        raise UserError(f"{folder} holds a run already; name another folder with --run, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "config.toml", to_toml(run.config).encode())
    versions = {name: version(name) for name in ("medweave", "torch", "diffusers", "transformers", "monai", "timm")}
    import json

    replace_file(
        folder / "versions.json",
        (json.dumps({"python": platform.python_version(), **versions}, indent=2) + "\n").encode(),
    )
    return folder
