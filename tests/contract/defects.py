"""Deliberately broken parts of the toy modalities: one for each check of the contract.

Each defect is the smallest change that a plugin author could plausibly make by mistake.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics import MeanSquaredError, Metric

from core.contract.modality import MetricSpec, Modality, PartConfig, Parts, Site
from core.errors import UserError
from core.nn import TextPromptEncoderConfig
from core.preprocess import ByteTokenizerConfig
from core.testing import toy
from core.testing.toy import TOY_GRID, TOY_VECTOR
from core.testing.toy_nets import ToyAutoencoder, ToyDenoiser, ToyPromptEncoder
from core.types import Batch, DataSpec, Posterior, Prompt, Sample

MAKERS: dict[str, Callable[[], Any]] = {}


@dataclass(frozen=True)
class Defect:
    """A modality that fails one check, and what its author did."""

    check: str
    modality: Modality
    name: str = ""

    def __str__(self):
        return f"{self.check}-{self.name}" if self.name else self.check


class BrokenConfig(PartConfig):
    """Builds the broken part that is registered for a check."""

    check: str

    def build(self) -> Any:
        return MAKERS[self.check]()


DEFECTS: list[Defect] = []


def with_part(modality: Modality, part: str, config: PartConfig | None) -> Modality:
    return replace(modality, presets={"tiny": replace(modality.presets["tiny"], **{part: config})})


def breaks(check: str, part: str, modality: Modality = TOY_GRID) -> Callable[[Any], Any]:
    """Register the decorated maker as the part that fails a check."""

    def register(make: Callable[[], Any]) -> Callable[[], Any]:
        name = f"{check}: {make.__name__}"
        MAKERS[name] = make
        DEFECTS.append(Defect(check, with_part(modality, part, BrokenConfig(check=name)), make.__name__))
        return make

    return register


def configured(part: str, modality: Modality = TOY_GRID) -> Any:
    return getattr(modality.presets["tiny"], part)


# --- every part -------------------------------------------------------------------------------------------------

_NAMELESS = with_part(with_part(replace(TOY_VECTOR, name="ToyVector"), "reader", None), "writer", None)
DEFECTS.append(Defect("declaration.name_is_lower_case", _NAMELESS))


@breaks("declaration.builds_without_network", "reader")
def calls_home():
    with socket.socket() as connection:
        connection.settimeout(0.2)
        try:
            connection.connect(("127.0.0.1", 9))
        except OSError:
            pass
    return toy.ToyReader("toy_grid")


@breaks("declaration.parts_keep_their_protocol", "augment")
def augment_without_keeps():
    return AugmentWithoutKeeps()


class AugmentWithoutKeeps:
    def view(self, sample, generator):
        return toy.ToyAugment(0.05).view(sample, generator)


class ForgetfulConfig(PartConfig):
    """A field that is written in one form and read in another."""

    modality: str = "toy_grid"
    strength: Any = None

    def model_post_init(self, context: Any) -> None:
        if isinstance(self.strength, list):
            object.__setattr__(self, "strength", "list")

    def build(self) -> Any:
        return toy.ToyReader(self.modality)


DEFECTS.append(
    Defect("declaration.config_survives_toml", with_part(TOY_GRID, "reader", ForgetfulConfig(strength=(1, 2))))
)


@breaks("declaration.pickles_to_workers", "augment")
def augment_with_lambda():
    augment = toy.ToyAugment(0.05)
    augment.schedule = lambda step: step
    return augment


class RandomBuffer(ToyPromptEncoder):
    """Holds a random projection outside its state dict."""

    def __init__(self):
        super().__init__(1, (8, 8), 16)
        self.register_buffer("projection", torch.randn(16, 16), persistent=False)

    def forward(self, batch):
        prompt = super().forward(batch)
        return replace(prompt, pooled=nn.functional.normalize(prompt.pooled @ self.projection, dim=-1))


MAKERS["declaration.state_restores_outputs"] = RandomBuffer
DEFECTS.append(
    Defect(
        "declaration.state_restores_outputs",
        with_part(TOY_GRID, "prompt", BrokenConfig(check="declaration.state_restores_outputs")),
    )
)


@breaks("declaration.leaves_global_randomness", "prompt")
class DrawsGlobally(ToyPromptEncoder):
    def __init__(self):
        super().__init__(1, (8, 8), 16)

    def forward(self, batch):
        torch.rand(1)
        return super().forward(batch)


# --- reader -----------------------------------------------------------------------------------------------------


class Reader(toy.ToyReader):
    def __init__(self):
        super().__init__("toy_grid")


@breaks("reader.suffixes_name_its_files", "reader")
class OtherSuffix(Reader):
    suffixes = (".png",)


@breaks("reader.gives_finite_data_with_geometry", "reader")
class NoName(Reader):
    def read(self, path):
        return replace(super().read(path), modality="grid")


@breaks("reader.errors_name_the_file", "reader")
class Nameless(Reader):
    def read(self, path):
        if not path.exists():
            raise FileNotFoundError("no such scan")
        return super().read(path)


@breaks("reader.truncation_is_seen_or_harmless", "reader")
class FillsUp(Reader):
    """Half a scan is filled up with NaN."""

    def read(self, path):
        try:
            return super().read(path)
        except UserError:
            if path.exists() and path.stat().st_size:
                return Sample(modality="toy_grid", data=np.full((1, 8, 8), np.nan, np.float32))
            raise


@breaks("reader.never_writes", "reader")
class Caches(Reader):
    def read(self, path):
        sample = super().read(path)
        path.with_suffix(".cache").write_bytes(b"1")
        return sample


# --- preprocessor -----------------------------------------------------------------------------------------------


class Preprocess(toy.ToyPreprocess):
    def __init__(self):
        super().__init__(configured("preprocess").build().default)


@breaks("preprocess.meets_the_data_spec", "preprocess")
class OtherRange(Preprocess):
    """Scales to [-1.5, 1.5]."""

    def apply(self, sample):
        if sample.meta.get("canonical"):
            return sample
        done = super().apply(sample)
        return replace(done, data=done.data * np.float32(1.5))

    def invert(self, sample, like=None):
        return super().invert(replace(sample, data=sample.data / np.float32(1.5)), like)


@breaks("preprocess.is_deterministic", "preprocess")
class Dithered(Preprocess):
    tolerance = 0.1

    def apply(self, sample):
        if sample.meta.get("canonical"):
            return sample
        done = super().apply(sample)
        noise = np.random.default_rng().random(done.data.shape, dtype=np.float32) * 1e-3
        return replace(done, data=np.clip(done.data * 0.999 + noise - 5e-4, -1, 1))


@breaks("preprocess.is_idempotent", "preprocess")
class Again(Preprocess):
    def apply(self, sample):
        if sample.meta.get("canonical"):
            return replace(sample, data=sample.data * np.float32(0.5))
        return super().apply(sample)


@breaks("preprocess.invert_restores_units_and_geometry", "preprocess")
class WrongUnits(Preprocess):
    def invert(self, sample, like=None):
        restored = super().invert(sample, like)
        return replace(restored, data=restored.data / 100)


@breaks("preprocess.invert_defaults_to_the_declared_geometry", "preprocess")
class IdentityAffine(Preprocess):
    def __init__(self):
        super().__init__()
        self.default = replace(self.default, affine=np.eye(4))


@breaks("preprocess.keeps_positions", "preprocess")
class Mirrors(Preprocess):
    """Turns left and right round, and back again."""

    def apply(self, sample):
        if sample.meta.get("canonical"):
            return sample
        done = super().apply(sample)
        return replace(done, data=np.ascontiguousarray(done.data[..., ::-1]))

    def invert(self, sample, like=None):
        return super().invert(replace(sample, data=np.ascontiguousarray(sample.data[..., ::-1])), like)


@breaks("preprocess.meets_the_data_spec", "preprocess")
class KeepsAnyShape(Preprocess):
    """Right on the canonical grid, and blind to any other."""

    def apply(self, sample):
        if sample.meta.get("canonical"):
            return sample
        data = np.clip(sample.data / 50 - 1, -1, 1).astype(np.float32)
        return replace(sample, data=data, meta={**sample.meta, "canonical": True})


@breaks("preprocess.meets_the_data_spec", "preprocess")
class CrashesOffTheGrid(Preprocess):
    def apply(self, sample):
        if not sample.meta.get("canonical") and sample.geometry.shape != (8, 8):
            raise ValueError("shapes do not match")
        return super().apply(sample)


@breaks("preprocess.invert_restores_units_and_geometry", "preprocess")
class OneGridForAll(Preprocess):
    """Right where ``like`` is the default."""

    def invert(self, sample, like=None):
        return super().invert(sample, None)


@breaks("preprocess.keeps_positions", "preprocess")
class ForgetsTheAffine(Preprocess):
    """Right where the sample lies on the canonical grid."""

    def apply(self, sample):
        return replace(super().apply(sample), geometry=self.default)


@breaks("preprocess.leaves_its_input", "preprocess")
class InPlace(Preprocess):
    def apply(self, sample):
        if sample.meta.get("canonical"):
            return sample
        done = super().apply(sample)
        sample.data[:] = sample.data + 0.25
        return done


# --- augmenter --------------------------------------------------------------------------------------------------


class Augment(toy.ToyAugment):
    def __init__(self):
        super().__init__(0.05)


@breaks("augment.same_generator_same_view", "augment")
class OwnRandomness(Augment):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def view(self, sample, generator):
        view = super().view(sample, generator)
        return replace(view, data=np.clip(view.data + self.rng.normal() * 0.01, -1, 1).astype(np.float32))


@breaks("augment.seeds_differ", "augment")
class Frozen(Augment):
    def view(self, sample, generator):
        return super().view(sample, torch.Generator().manual_seed(0))


@breaks("augment.leaves_global_randomness", "augment")
class GlobalNoise(Augment):
    def view(self, sample, generator):
        torch.randn(1)
        return super().view(sample, generator)


@breaks("augment.views_meet_the_data_spec", "augment")
class OutOfRange(Augment):
    def view(self, sample, generator):
        view = super().view(sample, generator)
        return replace(view, data=view.data * np.float32(1.5))


@breaks("augment.left_stays_left", "augment")
class Flips(Augment):
    def view(self, sample, generator):
        view = super().view(sample, generator)
        flip = bool(torch.rand(1, generator=generator) < 0.5)
        return replace(view, data=np.ascontiguousarray(view.data[..., ::-1])) if flip else view


# --- prompt encoder ---------------------------------------------------------------------------------------------


class Encoder(ToyPromptEncoder):
    def __init__(self):
        super().__init__(1, (8, 8), 16)


@breaks("prompt.shapes_fit_the_width", "prompt")
class WrongWidth(Encoder):
    def __init__(self):
        super().__init__()
        self.width = 8


@breaks("prompt.pooled_has_unit_norm", "prompt")
class Unnormalised(Encoder):
    def forward(self, batch):
        prompt = super().forward(batch)
        return replace(prompt, pooled=prompt.pooled * 3)


@breaks("prompt.null_token_tells_nothing", "prompt")
class SummaryToken(Encoder):
    def forward(self, batch):
        prompt = super().forward(batch)
        summary = prompt.tokens[:, :1] + prompt.tokens[:, 1:].mean(1, keepdim=True)
        return replace(prompt, tokens=torch.cat([summary, prompt.tokens[:, 1:]], 1))


@breaks("prompt.samples_do_not_mix", "prompt")
class Numbered(Encoder):
    def forward(self, batch):
        prompt = super().forward(batch)
        number = torch.arange(len(batch))[:, None] * torch.eye(16)[0]
        return replace(prompt, pooled=nn.functional.normalize(prompt.pooled + number, dim=-1))


@breaks("prompt.inputs_matter", "prompt")
class Blind(Encoder):
    def __init__(self):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(16))
        del self.pool

    def forward(self, batch):
        rows = len(batch)
        tokens = self.tokens(batch.data.flatten(2))
        tokens = torch.cat([self.null.expand(rows, 1, -1), tokens], 1)
        pooled = nn.functional.normalize(self.constant.expand(rows, -1), dim=-1)
        return Prompt(tokens=tokens, pooled=pooled, mask=torch.ones(tokens.shape[:2], dtype=torch.bool))


@breaks("prompt.gradient_reaches_every_parameter", "prompt")
class DeadWeight(Encoder):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(4, 4)


# --- autoencoder ------------------------------------------------------------------------------------------------


class Coder(ToyAutoencoder):
    def __init__(self):
        super().__init__("toy_grid", 1, (8, 8), 2, 1e-6)


@breaks("autoencoder.latent_has_the_declared_shape", "autoencoder")
class FlatLogvar(Coder):
    def encode(self, batch):
        posterior = super().encode(batch)
        return Posterior(mean=posterior.mean, logvar=posterior.logvar.mean((2, 3), keepdim=True))


@breaks("autoencoder.latent_has_unit_variance_after_scaling", "autoencoder")
class DeadChannel(Coder):
    def encode(self, batch):
        posterior = super().encode(batch)
        keep = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        return Posterior(mean=posterior.mean * keep, logvar=posterior.logvar)


@breaks("autoencoder.decoding_keeps_the_data_spec", "autoencoder")
class Crops(Coder):
    def decode(self, latent):
        batch = super().decode(latent)
        return replace(batch, data=batch.data[..., :7])


@breaks("autoencoder.samples_do_not_mix", "autoencoder")
class BatchStatistics(Coder):
    def encode(self, batch):
        posterior = super().encode(batch)
        return Posterior(mean=posterior.mean - posterior.mean.mean(0, keepdim=True) * 0.5, logvar=posterior.logvar)


@breaks("autoencoder.decoding_is_deterministic", "autoencoder")
class DecodesToGrey(Coder):
    def decode(self, latent):
        batch = super().decode(latent)
        return replace(batch, data=0 * batch.data)


@breaks("autoencoder.loss_draws_from_its_generator", "autoencoder")
class GlobalDraw(Coder):
    def loss(self, batch, generator):
        terms = super().loss(batch, generator)
        return {**terms, "noise": 1e-6 * torch.rand(())}


@breaks("autoencoder.loss_terms_are_named_and_finite", "autoencoder")
class OneTermPerSample(Coder):
    def loss(self, batch, generator):
        return {name: term[None] for name, term in super().loss(batch, generator).items()}


@breaks("autoencoder.loss_falls", "autoencoder")
class Detached(Coder):
    def loss(self, batch, generator):
        terms = {name: term.detach() for name, term in super().loss(batch, generator).items()}
        return {**terms, "touch": 0 * self.encoder[0].weight.sum()}


# --- denoiser ---------------------------------------------------------------------------------------------------


class Denoiser(ToyDenoiser):
    def __init__(self, channels=2, space=(4, 4)):
        super().__init__(channels, space, 32, 16)


@breaks("denoiser.latent_fits_the_autoencoder", "denoiser")
def denoiser_for_another_size():
    return Denoiser(space=(8, 8))


@breaks("denoiser.prediction_has_the_latent_shape", "denoiser")
class ReturnsDouble(Denoiser):
    def forward(self, noisy, level, conditioning):
        return super().forward(noisy, level, conditioning).double()


@breaks("denoiser.samples_are_independent", "denoiser")
class BatchNormalised(Denoiser):
    def forward(self, noisy, level, conditioning):
        predicted = super().forward(noisy, level, conditioning)
        return predicted - 0.1 * predicted.mean(0, keepdim=True)


@breaks("denoiser.null_token_is_the_unconditional_case", "denoiser")
class PeeksAtMasked(Denoiser):
    """Reads the second token without asking the mask."""

    def forward(self, noisy, level, conditioning):
        leak = conditioning.prompt[:, 1].mean(-1).view(-1, *[1] * (noisy.ndim - 1))
        return super().forward(noisy, level, conditioning) + 0.1 * leak


@breaks("denoiser.padding_changes_nothing", "denoiser")
class CountsTokens(Denoiser):
    def forward(self, noisy, level, conditioning):
        return super().forward(noisy, level, conditioning) * (1 + 0.1 * conditioning.prompt.shape[1])


@breaks("denoiser.prompt_and_level_count_after_training", "denoiser")
class IgnoresLevel(Denoiser):
    def forward(self, noisy, level, conditioning):
        return super().forward(noisy, torch.zeros_like(level), conditioning)


@breaks("denoiser.sites_are_what_they_say", "denoiser")
class WrongGrid(Denoiser):
    def __init__(self):
        super().__init__()
        self._sites = (Site("block", 32, (2, 4)), *self._sites[1:])


@breaks("denoiser.attaching_leaves_the_output_bit_equal", "denoiser")
class NotZeroAtFirst(Denoiser):
    def _guided(self, module, hidden, context):
        return module(hidden, context) + 1e-3


@breaks("denoiser.context_reaches_the_output", "denoiser")
class ReadsMaskedContext(Denoiser):
    def _guided(self, module, hidden, context):
        return module(hidden, replace(context, mask=torch.ones_like(context.mask)))


@breaks("denoiser.every_site_counts", "denoiser")
class SecondSiteIsDropped(Denoiser):
    """Two sites; what the second one tells is computed and thrown away."""

    def __init__(self):
        super().__init__()
        self.second = None

    def context_sites(self):
        return [*self._sites, Site("second", 32, (4, 4))]

    def attach(self, site, module):
        if site == "second":
            self.second = module
        else:
            super().attach(site, module)

    def forward(self, noisy, level, conditioning):
        if self.second is not None and conditioning.context is not None:
            tokens = self.enter(noisy.flatten(2).transpose(1, 2))
            self.second(tokens, conditioning.context)
        return super().forward(noisy, level, conditioning)


# --- writer -----------------------------------------------------------------------------------------------------


@breaks("writer.reads_back", "writer")
class WritesIdentityAffine(toy.ToyWriter):
    def write(self, sample, path, provenance, *, overwrite=False):
        plain = replace(sample, geometry=replace(sample.geometry, affine=np.eye(4)))
        super().write(plain, path, provenance, overwrite=overwrite)


@breaks("writer.marks_the_file_synthetic", "writer")
class Unmarked(toy.ToyWriter):
    def write(self, sample, path, provenance, *, overwrite=False):
        super().write(sample, path, provenance, overwrite=overwrite)
        toy.write_array(path, sample)


@breaks("writer.refuses_to_overwrite", "writer")
class Overwrites(toy.ToyWriter):
    def write(self, sample, path, provenance, *, overwrite=False):
        super().write(sample, path, provenance, overwrite=True)


@breaks("writer.leaves_no_stray_file", "writer")
class LeavesPartBehind(toy.ToyWriter):
    def write(self, sample, path, provenance, *, overwrite=False):
        if path.parent.is_dir():
            path.with_name("write.lock").write_bytes(b"")
        super().write(sample, path, provenance, overwrite=overwrite)


# --- metrics and tokens -----------------------------------------------------------------------------------------


class PixelError(MeanSquaredError):
    def update(self, synthetic: Batch, real: Batch) -> None:
        super().update(synthetic.data.contiguous(), real.data.contiguous())


class LastPairOnly(Metric):
    """Keeps only the last pair, so the order decides."""

    def __init__(self):
        super().__init__()
        self.add_state("value", torch.tensor(0.0))

    def update(self, synthetic: Batch, real: Batch) -> None:
        self.value = (synthetic.data[-1] - real.data[-1]).square().mean()

    def compute(self):
        return self.value


MAKERS["pixel_error"] = PixelError


def measured(check: str, better: str) -> Modality:
    spec = MetricSpec(name="error", compares="pairs", better=better, config=BrokenConfig(check=check))
    return replace(TOY_GRID, metrics=(spec,))


GOOD_METRIC = measured("pixel_error", "lower")
DEFECTS.append(Defect("metric.itself_is_best", measured("pixel_error", "higher")))
MAKERS["metric.order_does_not_matter"] = LastPairOnly
DEFECTS.append(Defect("metric.order_does_not_matter", measured("metric.order_does_not_matter", "lower")))

# --- tokens -----------------------------------------------------------------------------------------------------

_TOKENS_SPEC = DataSpec(kind="tokens", space=(48,), units="token", vocabulary=259)


class LineReader:
    """Reads a one-line text file whose first word marks it synthetic."""

    suffixes = (".txt",)

    def read(self, path):
        if not path.exists() or not path.read_bytes():
            raise UserError(f"{path}: missing or empty")
        return Sample(modality="words", data=path.read_bytes().decode("utf-8", "replace").removeprefix("SYNTHETIC "))


class LineWriter(toy.ToyWriter):
    suffix = ".txt"

    def write(self, sample, path, provenance, *, overwrite=False):
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists")
        if not path.parent.is_dir():
            raise UserError(f"{path.parent}: no such folder")
        path.write_text(f"SYNTHETIC {sample.data}")


MAKERS["words.reader"], MAKERS["words.writer"] = LineReader, LineWriter
_ENCODER = TextPromptEncoderConfig(vocabulary=259, length=48, width=16, depth=1, num_heads=2, prompt_width=16)
TOKENS = Modality(
    name="words",
    title="Words",
    presets={
        "tiny": Parts(
            data=_TOKENS_SPEC,
            reader=BrokenConfig(check="words.reader"),
            preprocess=ByteTokenizerConfig(length=48),
            prompt=_ENCODER,
            writer=BrokenConfig(check="words.writer"),
        )
    },
)


class PooledOverPadding(nn.Module):
    """Averages the ids of the whole row, padding included."""

    width = 16

    def __init__(self):
        super().__init__()
        self.encoder = _ENCODER.build()

    def forward(self, batch):
        prompt = self.encoder(batch)
        shift = batch.data.float().mean(1, keepdim=True) * 0.05
        return replace(prompt, pooled=nn.functional.normalize(prompt.pooled + shift * torch.eye(16)[0], dim=-1))


breaks("prompt.padding_changes_nothing", "prompt", TOKENS)(PooledOverPadding)


# --- the other clauses of checks that have several -----------------------------------------------------------------


@breaks("denoiser.samples_are_independent", "denoiser")
class FirstPromptForAll(Denoiser):
    def forward(self, noisy, level, conditioning):
        first = conditioning.prompt[:1].expand_as(conditioning.prompt)
        return super().forward(noisy, level, replace(conditioning, prompt=first))


@breaks("denoiser.samples_are_independent", "denoiser")
class FirstLevelForAll(Denoiser):
    def forward(self, noisy, level, conditioning):
        return super().forward(noisy, level[:1].expand_as(level) + 0.3 * level, conditioning)


@breaks("denoiser.samples_are_independent", "denoiser")
class LeaksFromTheRowBefore(Denoiser):
    def forward(self, noisy, level, conditioning):
        predicted = super().forward(noisy, level, conditioning)
        before = torch.cat([torch.zeros_like(predicted[:1]), predicted[:-1]])
        return predicted + 0.1 * before


@breaks("denoiser.samples_are_independent", "denoiser")
class AveragesContext(Denoiser):
    def _guided(self, module, hidden, context):
        return module(hidden, context).mean(0, keepdim=True).expand_as(hidden)


@breaks("denoiser.prompt_and_level_count_after_training", "denoiser")
class IgnoresPrompt(Denoiser):
    def _attend(self, hidden, conditioning):
        return 0 * super()._attend(hidden, conditioning)


@breaks("prompt.samples_do_not_mix", "prompt")
class CentredOnTheBatch(Encoder):
    def forward(self, batch):
        prompt = super().forward(batch)
        centred = prompt.pooled - 0.5 * prompt.pooled.mean(0, keepdim=True)
        return replace(prompt, pooled=nn.functional.normalize(centred, dim=-1))


@breaks("autoencoder.samples_do_not_mix", "autoencoder")
class DecodesMixed(Coder):
    def decode(self, latent):
        batch = super().decode(latent)
        return replace(batch, data=batch.data + 0.1 * batch.data.roll(1, 0) if len(batch.data) > 1 else batch.data)


@breaks("autoencoder.decoding_is_deterministic", "autoencoder")
class DecodesWithNoise(Coder):
    def __init__(self):
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)

    def decode(self, latent):
        batch = super().decode(latent)
        return replace(batch, data=batch.data + 1e-4 * torch.randn(batch.data.shape, generator=self.draws))


@breaks("reader.gives_finite_data_with_geometry", "reader")
class ReadsOtherType(Reader):
    def read(self, path):
        sample = super().read(path)
        return replace(sample, data=sample.data.astype(np.float64))


@breaks("augment.left_stays_left", "augment")
class FlipsSeldom(Augment):
    def view(self, sample, generator):
        view = super().view(sample, generator)
        flip = bool(torch.rand(1, generator=generator) < 0.05)
        return replace(view, data=np.ascontiguousarray(view.data[..., ::-1])) if flip else view


@breaks("writer.reads_back", "writer")
class DropsRotation(toy.ToyWriter):
    """Keeps the spacing only, which is enough for a sample that stands straight at the origin."""

    def write(self, sample, path, provenance, *, overwrite=False):
        straight = np.diag([*np.linalg.norm(sample.geometry.affine[:3, :3], axis=0), 1.0])
        plain = replace(sample, geometry=replace(sample.geometry, affine=straight))
        super().write(plain, path, provenance, overwrite=overwrite)
