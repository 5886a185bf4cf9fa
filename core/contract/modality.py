"""What a plugin declares: a `Modality`, its `Parts` per preset, and the contract that each part keeps.

A part is declared as a *config*: a frozen pydantic model whose ``build()`` makes the part. Declaring costs nothing;
heavy libraries are imported inside ``build()`` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict

from core.errors import UserError, unknown_name
from core.types import (
    Batch,
    Conditioning,
    DataFile,
    DataSpec,
    Geometry,
    LatentSpec,
    Objective,
    Posterior,
    Prompt,
    Provenance,
    Record,
    Sample,
    Space,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module

CONTRACT = 1
NAME = re.compile(r"[a-z][a-z0-9_]*")
SHARED_KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


class PartConfig(BaseModel):
    """Settings of one part. Subclass it, add fields with defaults, and make the part in `build`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def build(self) -> Any:
        """Make the part. Heavy libraries are imported here. No network is needed."""
        raise TypeError(f"{type(self).__name__} does not define build()")

    def for_recipe(self, switches: Mapping[str, str]) -> Self:
        """Return the settings as the switches of a recipe change them; by default they change nothing.

        ``switches``: ``align.image_encoder`` and ``prompt.form`` (`core.config.recipe`). What a user sets for this part
        stands above them.
        """
        return self


@dataclass(frozen=True)
class Shared:
    """A part that several modalities share, e.g. the image encoder of both X-ray views.

    Weights, freezing, run folder, bundle, EMA and parameter counts go by ``key``. Two unequal configs under one key
    are an error. Latent scale and shift stay per modality.
    """

    key: str
    config: PartConfig

    def build(self) -> Any:
        """Make the part that its owners share."""
        return self.config.build()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a modality at one preset. A part that a modality does not need is left out.

    Without ``prompt`` a modality cannot be an input, without ``autoencoder`` and ``denoiser`` not an output.
    ``writer`` writes generated files in the default format. ``exports`` are writers of other formats by name, e.g.
    ``{"dicom": ...}``.
    """

    data: DataSpec
    reader: PartConfig | None = None
    preprocess: PartConfig | None = None
    augment: PartConfig | None = None
    prompt: PartConfig | Shared | None = None
    autoencoder: PartConfig | Shared | None = None
    denoiser: PartConfig | Shared | None = None
    writer: PartConfig | None = None
    exports: Mapping[str, PartConfig] = field(default_factory=dict)

    def declared(self) -> dict[str, PartConfig | Shared]:
        """Return part name to config, in the order of the data flow, without those left out."""
        names = [part.name for part in fields(self) if part.name not in ("data", "exports")]
        return {name: config for name in names if (config := getattr(self, name)) is not None}

    def weight_key(self, modality: str, part: str) -> str:
        """Return the name of the weight set of a part: ``MODALITY.PART``, or the key under which it is shared."""
        config = self.declared()[part]
        return config.key if isinstance(config, Shared) else f"{modality}.{part}"


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A trained model that a plugin brings along, in its package.

    ``folder``: a bundle that ``core.export`` has written. Its data must allow everybody to pass it on.
    """

    name: str
    title: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A measure of two ``sets`` of samples, of ``pairs`` of them, or of each ``single`` sample."""

    name: str
    compares: Literal["sets", "pairs", "single"]
    better: Literal["higher", "lower"]
    config: PartConfig
    relates: tuple[str, str] | None = None

    def build(self) -> Any:
        """Make a new ``torchmetrics.Metric``."""
        return self.config.build()


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of medical data, as a plugin offers it.

    ``presets`` gives the parts at ``"tiny"`` (minutes on a laptop), ``"small"``, ``"paper"``, ...
    ``contract`` is the version of this contract that the plugin was written for.
    """

    name: str
    title: str
    presets: Mapping[str, Parts]
    metrics: Sequence[MetricSpec] = ()
    contract: int = CONTRACT

    def parts(self, preset: str) -> Parts:
        """Return the parts at a preset; `UserError` with the choices where there is none."""
        if preset not in self.presets:
            raise unknown_name(f"preset of modality '{self.name}'", preset, self.presets)
        return self.presets[preset]


@dataclass(frozen=True, kw_only=True)
class DatasetAdapter:
    """Reads names and headers of a data set on disk, never pixels, and never downloads.

    ``modalities``: those that the data set may contain; empty where only a scan shows them.

    ``scan(root)`` yields a `Record` per study, with the official split where there is one. Its keyword arguments may be
    set as ``[datasets.NAME.options]``.

    ``make(root)``, of a cohort that is computed and not collected, writes the missing files and leaves the others. Its
    keyword arguments may be ``num`` (studies), ``seed``, ``workers`` (processes) and ``progress`` (whether a bar is
    shown).

    ``dicom(root, out, patients)`` writes the first ``patients`` of a computed cohort to ``out`` as DICOM studies, and
    leaves those that exist. Its keyword arguments may be ``seed``, ``workers`` and ``progress``.

    ``findings_of(text)`` extracts the findings of a report of this data set: finding (a name among ``Record.labels``)
    to 1 present or 0 absent, without those that the report does not mention. Measures use it on generated reports,
    alignment on reports without labels.

    ``details_of(text)`` extracts details of a finding, such as side and grade: ``FINDING/DETAIL`` to 1 or 0, without
    those that the report does not mention. Alignment uses it.

    ``measurements_of(record)`` gives measurements of a study's anatomy, such as the width of the thorax, by name and in
    any unit, without those that are unknown. It reads tables or parameters, never pixels. Measures train readers of
    images on them, and compare what is read on two outputs of one study.

    ``weights_may_be_shared``: whether the ``licence`` lets anybody pass weights on that were trained on the data.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    licence: str
    citation: str
    scan: Callable[..., Iterable[Record]]
    make: Callable[..., None] | None = None
    findings_of: Callable[[str], Mapping[str, int]] | None = None
    details_of: Callable[[str], Mapping[str, int]] | None = None
    measurements_of: Callable[[Record], Mapping[str, float]] | None = None
    dicom: Callable[..., None] | None = None
    weights_may_be_shared: bool = False

    def write_dicom(self, root: Path, out: Path, patients: int, **options: Any) -> None:
        """Call ``dicom``; `UserError` for a data set that has none."""
        if self.dicom is None:
            raise UserError(f"data set '{self.name}' cannot be written as DICOM: it is collected, not computed")
        self.dicom(root, out, patients, **options)


@dataclass(frozen=True)
class Site:
    """A point of a denoiser where a module can be attached that reads the context of the partners.

    ``kind = "attention"``: ``module(hidden, context)`` returns the update of hidden tokens ``batch tokens width``.
    ``grid`` is their spatial shape, in their order: ``(8, 8)`` means 64 tokens, row by row. A denoiser of vectors has
    positions that lie nowhere in the patient, e.g. ``(4,)``. ``kind = "residual"``: ``module(context)`` returns
    ``batch width *grid``, which is added to a hidden state of that shape (method F7); a denoiser may have none. One
    with the grid ``()`` takes a vector, which is added to the pooled vector of the prompt. Branches of guidance share a
    context: where an update has fewer rows than the latent, it is repeated for the branches, one after the other.
    """

    name: str
    width: int
    grid: Space
    kind: Literal["attention", "residual"] = "attention"


@runtime_checkable
class Reader(Protocol):
    """File to `Sample` in original units."""

    suffixes: tuple[str, ...]

    def read(self, path: DataFile) -> Sample:
        """Finite data with geometry. Every error names the file. Never writes.

        ``path`` is a `FileRef` only where a study names a picture in an archive: other readers may take a `Path` alone.
        """
        ...


@runtime_checkable
class Preprocessor(Protocol):
    """Original units to canonical form and back.

    ``tolerance``: largest change of a value by a round trip on the canonical grid, in units; 0 for tokens.
    """

    tolerance: float

    def apply(self, sample: Sample) -> Sample:
        """Return a sample that meets the `DataSpec`; deterministic, idempotent, and without change of the input."""
        ...

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Restore units and geometry: those of ``like``, or ``DataSpec.default_geometry``."""
        ...


@runtime_checkable
class Augmenter(Protocol):
    """A randomly augmented version of a canonical sample, for alignment (method E3)."""

    keeps: tuple[str, ...]

    def view(self, sample: Sample, generator: Generator) -> Sample:
        """Return the same for the same generator state; no global randomness; never mirror left and right."""
        ...


@runtime_checkable
class PromptEncoder(Protocol):
    """`Batch` to `Prompt` in the shared space (method E1). A ``torch.nn.Module``.

    ``width`` of the pooled vector. Tokens have the same width, or the ``token_width`` that the encoder states
    (`token_width`).
    """

    width: int

    def __call__(self, batch: Batch) -> Prompt:
        """Return tokens, pooled vector and mask of every sample."""
        ...


def token_width(encoder: PromptEncoder) -> int:
    """Return the width of an encoder's tokens: that of its pooled vector unless it states another."""
    return int(getattr(encoder, "token_width", encoder.width))


@runtime_checkable
class Autoencoder(Protocol):
    """`Batch` to latent and back (method E7, E8). A ``torch.nn.Module``."""

    spec: LatentSpec

    def encode(self, batch: Batch) -> Posterior:
        """Return mean and log-variance, ``batch channel *space`` of ``spec``, before any scaling."""
        ...

    def decode(self, latent: Tensor) -> Batch:
        """Return canonical data from an unscaled latent.

        An autoencoder may have a method ``decode_generated(latent)`` too, for latents that were generated and are
        exactly those of no data.
        """
        ...

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Return named, finite, weighted terms; training minimises their sum.

        An autoencoder whose terms follow a schedule may have a method ``set_num_losses(number)``: training calls it
        with the number of losses that it will take of the module in this process.
        """
        ...


@runtime_checkable
class Denoiser(Protocol):
    """Noisy latent to prediction (method E10, E11). A ``torch.nn.Module``.

    ``noisy`` ``batch channel *space``; ``level`` log-SNR, float32 ``batch``. ``latent_shape`` is ``(channel, *space)``
    of the latents it was built for, ``prompt_width`` the width of its prompt tokens. A denoiser that also takes the
    pooled vector states its width as ``pooled_width`` (`pooled_width`).
    """

    latent_shape: tuple[int, ...]
    prompt_width: int

    def __call__(self, noisy: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the prediction, in the shape of ``noisy``."""
        ...

    def context_sites(self) -> Sequence[Site]:
        """Return where modules that read the context may be attached; no name repeats."""
        ...

    def attach(self, site: str, module: Module) -> None:
        """Register ``module(hidden, context)``, or ``module(context)`` at a residual site, whose update is added."""
        ...


def pooled_width(denoiser: Denoiser) -> int | None:
    """Return the width of the pooled vector that a denoiser takes; ``None`` where it takes none."""
    return getattr(denoiser, "pooled_width", None)


def pretrained_objective(denoiser: Denoiser) -> Objective | None:
    """Return what a denoiser was pretrained to predict (method E10); ``None`` from scratch, or where it is unknown."""
    return getattr(denoiser, "pretrained_objective", None)


@runtime_checkable
class Writer(Protocol):
    """`Sample` in original units to a file with a mark inside that it is synthetic.

    ``suffix`` is empty where a sample becomes a folder of files; then every file has the mark. ``tolerance``: largest
    change of a value by writing and reading, in units; 0 for text.
    """

    suffix: str
    tolerance: float

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write the file whole or not at all; `UserError` for one that exists, unless ``overwrite``."""
        ...


PROTOCOLS: Mapping[str, type] = {
    "reader": Reader,
    "preprocess": Preprocessor,
    "augment": Augmenter,
    "prompt": PromptEncoder,
    "autoencoder": Autoencoder,
    "denoiser": Denoiser,
    "writer": Writer,
}
