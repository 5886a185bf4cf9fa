"""What a plugin declares: a `Modality`, its `Parts` per preset, and the contract that each part keeps.

A part is declared as a *config*: a frozen pydantic model whose ``build()`` makes the part. Declaring costs nothing;
heavy libraries are imported inside ``build()`` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from core.errors import UserError, unknown_name
from core.types import (
    Batch,
    Conditioning,
    DataFile,
    DataSpec,
    Geometry,
    LatentSpec,
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
        """Make the part. Heavy imports belong here. Needs no network."""
        raise TypeError(f"{type(self).__name__} does not define build()")


@dataclass(frozen=True)
class Shared:
    """A part that several modalities own together, e.g. the image encoder of both X-ray views.

    Weights, freezing, run folder, bundle, EMA and parameter counts go by ``key``. Two unequal configs under one key
    are an error. Latent scale and shift stay per modality.
    """

    key: str
    config: PartConfig

    def build(self) -> Any:
        """Make the part; its owners share what is made."""
        return self.config.build()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a modality at one preset. A part that a modality does not need is left out.

    Without ``prompt`` a modality cannot be an input, without ``autoencoder`` and ``denoiser`` not an output.
    ``writer`` is the format of generated files unless somebody asks for another: ``exports`` are writers by the name of
    their format, e.g. ``{"dicom": ...}``.
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
        """Part name to config, in the order of the data flow, without those left out."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("data", "exports")}
        return {name: config for name, config in found.items() if config is not None}

    def weight_key(self, modality: str, part: str) -> str:
        """Name of the weight set of a part: its own, or the key under which it is shared."""
        config = self.declared()[part]
        return config.key if isinstance(config, Shared) else f"{modality}.{part}"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A measure. ``compares``: two ``sets`` of samples, ``pairs`` of them, or each ``single`` one."""

    name: str
    compares: Literal["sets", "pairs", "single"]
    better: Literal["higher", "lower"]
    config: PartConfig
    relates: tuple[str, str] | None = None

    def build(self) -> Any:
        """A fresh ``torchmetrics.Metric``."""
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
        """The parts at a preset; `UserError` with the choices where there is none."""
        if preset not in self.presets:
            raise unknown_name(f"preset of modality '{self.name}'", preset, self.presets)
        return self.presets[preset]


@dataclass(frozen=True, kw_only=True)
class DatasetAdapter:
    """Reads names and headers of a data set on disk, never pixels, and never downloads.

    ``modalities`` that it may hold; empty where only a scan can tell.

    ``scan(root)`` yields a `Record` per study, with the official split where there is one; what it takes by keyword may
    be set as ``[datasets.NAME.options]``. A cohort that is computed,
    not collected, has ``make(root)``, which writes what is missing of it and leaves what is there. It may take, by
    keyword, ``num`` studies, ``seed``, ``workers`` (processes) and ``progress`` (whether a bar is shown).

    ``dicom(root, out, patients)`` writes the first ``patients`` of a computed cohort to ``out`` as DICOM studies, and
    leaves those that are there; by keyword it may take ``seed``, ``workers`` and ``progress``.

    ``findings_of(text)`` reads a text of this data set: finding (a name among ``Record.labels``) to 1 present or 0
    absent, without those that it does not mention. Measures ask it what generated texts tell, alignment what texts
    without labels tell.

    ``details_of(text)`` reads what a text says of a finding beyond that, as ``FINDING/DETAIL`` to 1 or 0: its side, its
    grade. What is not said is left out. Alignment asks it.
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
    dicom: Callable[..., None] | None = None

    def write_dicom(self, root: Path, out: Path, patients: int, **options: Any) -> None:
        """Call ``dicom``; `UserError` for a data set that has none."""
        if self.dicom is None:
            raise UserError(f"data set '{self.name}' cannot be written as DICOM: it is collected, not computed")
        self.dicom(root, out, patients, **options)


@dataclass(frozen=True)
class Site:
    """A place in a denoiser where context attention can be attached.

    ``grid`` is the spatial shape of the hidden tokens there, in their order: ``(8, 8)`` means 64 tokens, row by row. A
    denoiser of vectors has positions without a place in the patient, e.g. ``(4,)``.
    """

    name: str
    width: int
    grid: Space


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

    ``tolerance``: what a round trip of a sample on the canonical grid may cost a value, in units; 0 for tokens.
    """

    tolerance: float

    def apply(self, sample: Sample) -> Sample:
        """Meets the `DataSpec`; deterministic; idempotent; leaves its input as it is."""
        ...

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Units and geometry restored: those of ``like``, or ``DataSpec.default_geometry``."""
        ...


@runtime_checkable
class Augmenter(Protocol):
    """A random view of a canonical sample for alignment (METHOD E3)."""

    keeps: tuple[str, ...]

    def view(self, sample: Sample, generator: Generator) -> Sample:
        """Same generator state, same view; no global randomness; never mirrors left and right."""
        ...


@runtime_checkable
class PromptEncoder(Protocol):
    """`Batch` to `Prompt` in the shared space (METHOD E1). A ``torch.nn.Module``."""

    width: int

    def __call__(self, batch: Batch) -> Prompt:
        """Tokens, pooled vector and mask of every sample."""
        ...


@runtime_checkable
class Autoencoder(Protocol):
    """`Batch` to latent and back (METHOD E7, E8). A ``torch.nn.Module``."""

    spec: LatentSpec

    def encode(self, batch: Batch) -> Posterior:
        """Mean and log-variance, ``batch channel *space`` of ``spec``, before any scaling."""
        ...

    def decode(self, latent: Tensor) -> Batch:
        """Canonical data from an unscaled latent."""
        ...

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Named, finite, weighted terms; training minimises their sum."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """Noisy latent to prediction (METHOD E10, E11). A ``torch.nn.Module``.

    ``noisy`` ``batch channel *space``; ``level`` log-SNR, float32 ``batch``. ``latent_shape`` is ``(channel, *space)``
    of the latents it was built for, ``prompt_width`` the width of its prompt tokens.
    """

    latent_shape: tuple[int, ...]
    prompt_width: int

    def __call__(self, noisy: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        """The prediction, in the shape of ``noisy``."""
        ...

    def context_sites(self) -> Sequence[Site]:
        """Where context attention may be attached; none of the names repeats."""
        ...

    def attach(self, site: str, module: Module) -> None:
        """Register ``module(hidden, context) -> update`` to be added at the site."""
        ...


@runtime_checkable
class Writer(Protocol):
    """`Sample` in original units to a file that says inside itself that it is synthetic.

    ``suffix`` is empty where a sample becomes a folder of files; then every file says so. ``tolerance``: what writing
    and reading again may cost a value, in units; 0 for text.
    """

    suffix: str
    tolerance: float

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Refuses an existing file unless told; never leaves half a file."""
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
