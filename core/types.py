"""The types that pass between the steps; nothing else passes.

Axis legend, used in every docstring and signature:

========  ==============================================================================================
batch     samples of one batch
channel   channels of an image, a volume or a latent
*space    ``()`` a vector, ``(L,)`` a sequence, ``(H, W)`` a slice or projection, ``(D, H, W)`` a volume
length    tokens of a prompt or a context
width     features of a token
========  ==============================================================================================

World coordinates are millimetres, axes (R, A, S) as in NIfTI: x grows towards the patient's right, y anterior,
z superior.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

Space = tuple[int, ...]
Split = Literal["train", "validation", "test"]
Objective = Literal["epsilon", "v", "clean", "rectified_flow"]  # what a denoiser predicts (method E10)
ScheduleName = Literal["scaled_linear", "zero_terminal_snr", "cosine", "linear"]  # of noise levels (method E9)
ENDS_IN_NOISE: tuple[ScheduleName, ...] = ("zero_terminal_snr", "linear")  # whose noisiest level holds no data
LABEL_UNITS = "label"  # of label maps, whose numbers stand for names


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """The position of an array in the patient. It travels with the data from reader to writer; text has none.

    ``affine`` is 4x4 (mm, RAS): column ``k`` is the step along array axis ``k``. A 2-D image has two array axes;
    its third column is the normal times the slice thickness, or a unit normal where there is no thickness.
    ``source_header`` holds entries of the file's header that a writer may need again, such as the window.
    """

    affine: np.ndarray
    shape: Space
    source_header: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"affine must be a finite 4x4 matrix, found shape {affine.shape}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError("affine is singular: two array axes share a direction, or a spacing is 0")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, ...]:
        """Return the distance between neighbours along each array axis, mm."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(step) for step in steps[: len(self.shape)])

    @property
    def orientation(self) -> str:
        """Return the direction of each array axis, e.g. ``"RAS"``, or ``"IL"`` for a frontal radiograph."""
        names = (("L", "R"), ("P", "A"), ("I", "S"))
        letters = []
        for axis in range(len(self.shape)):
            step = self.affine[:3, axis]
            world = int(np.argmax(np.abs(step)))
            letters.append(names[world][int(step[world] > 0)])
        return "".join(letters)

    def resized(self, shape: Space) -> Geometry:
        """Return the same field of view on another number of points: the edges of the outer pixels do not move."""
        factor = np.ones(3)
        factor[: len(shape)] = [old / new for old, new in zip(self.shape, shape, strict=True)]
        affine = self.affine.copy()
        affine[:3, :3] = affine[:3, :3] * factor
        # The centre of the first pixel moves by half the difference of the two pixel sizes.
        affine[:3, 3] = self.affine[:3, 3] + self.affine[:3, :3] @ ((factor - 1) / 2)
        return replace(self, affine=affine, shape=tuple(shape))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Geometry)
            and self.shape == other.shape
            and np.array_equal(self.affine, other.affine)
            and dict(self.source_header) == dict(other.source_header)
        )


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The form of a preprocessed sample of a modality.

    ``kind``: ``"grid"`` (float32 ``channel *space`` in [-1, 1]), ``"vector"`` (float32 ``channel``) or ``"tokens"``
    (int64 ``length``, at most ``space[0]`` ids below ``vocabulary``). ``value_range`` is the range in ``units`` that
    [-1, 1] stands for. ``default_geometry`` is what a generated sample gets when no input has a geometry. Where
    ``units`` are ``"label"``, original data are whole numbers in one channel; canonical data have a channel per label.
    """

    kind: Literal["grid", "vector", "tokens"]
    space: Space = ()
    channels: int = 1
    units: str = "1"
    value_range: tuple[float, float] = (-1.0, 1.0)
    vocabulary: int | None = None
    default_geometry: Geometry | None = None

    def __post_init__(self) -> None:
        expected = {"vector": (0,), "tokens": (1,), "grid": (2, 3)}[self.kind]
        if len(self.space) not in expected:
            raise ValueError(f"a {self.kind} has {' or '.join(map(str, expected))} spatial axes, found {self.space}")
        if min((*self.space, self.channels)) < 1:
            raise ValueError(f"every size is at least 1, found channels {self.channels}, space {self.space}")
        if (self.vocabulary is None) == (self.kind == "tokens"):
            raise ValueError("vocabulary is the number of token ids: given for tokens, and for nothing else")


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """The shape of a modality's latent, and the affine map that gives it unit variance (method E7).

    ``scaled = (latent - shift) * scale`` per channel. Both are measured on the whole training set; until then they
    are ``None`` and diffusing such a latent is refused.
    """

    channels: int
    space: Space
    downsample: int = 1
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None

    @property
    def fitted(self) -> bool:
        """Return whether scale and shift were measured."""
        return self.scale is not None and self.shift is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One modality of one study, in original units (from a reader) or canonical form (from a preprocessor).

    ``data``: float32 ``channel *space`` for grids, float32 ``channel`` for vectors; a string for text in original
    form, int64 ids ``length`` in canonical form.
    """

    modality: str
    data: np.ndarray | str
    geometry: Geometry | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Model-ready tensors of one modality.

    ``data``: float32 ``batch channel *space`` in [-1, 1], float32 ``batch channel``, or int64 ids ``batch length``.
    ``mask``: bool ``batch length``, true where a token is real; ``None`` where nothing is padded.
    """

    modality: str
    data: Tensor
    mask: Tensor | None = None

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def to(self, device: Any) -> Batch:
        """Return the batch on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, data=self.data.to(device), mask=mask)

    def __getitem__(self, index: Any) -> Batch:
        """Return a batch of the chosen rows (a slice, a list or an index tensor)."""
        return replace(self, data=self.data[index], mask=None if self.mask is None else self.mask[index])


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """The diagonal Gaussian of an autoencoder; mean and log-variance are ``batch channel *space``."""

    mean: Tensor
    logvar: Tensor

    def draw(self, generator: Any) -> Tensor:
        """Return a reparameterised draw; the noise comes from ``generator``, on its own device."""
        import torch

        # Drawn on the generator's device and in float32: one seed is one noise, on every device and at any precision.
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return self.mean + noise.to(self.mean) * (0.5 * self.logvar).exp()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """An input modality in the shared space.

    ``tokens`` ``batch length token_width``; ``pooled`` ``batch width`` of unit norm; ``mask`` bool ``batch length``,
    true where a token counts. Token 0 is never masked and holds nothing of the input (zeros, or CLIP's start token):
    masking all others *is* the null prompt, and no row is ever masked whole.
    """

    tokens: Tensor
    pooled: Tensor
    mask: Tensor


class AxisCells(NamedTuple):
    """The cells of a grid along one axis of the patient: their number, the centre of the first, and the step, mm."""

    num: int
    first_mm: float
    step_mm: float


@dataclass(frozen=True, kw_only=True)
class PatientGrid:
    """A grid whose axes run along those of the patient (method F7).

    ``cells`` along R, A and S; ``None`` along an axis whose positions are unknown. ``order``: the patient's axis (0 R,
    1 A, 2 S) along which each array axis runs.
    """

    cells: tuple[AxisCells | None, AxisCells | None, AxisCells | None]
    order: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What other outputs that are being generated contribute to this one (method E13).

    ``tokens`` ``batch length width``; ``mask`` bool ``batch length``; ``position_mm`` ``batch length 3`` in (R, A, S);
    ``axes`` bool ``batch length 3``, which of the three a token knows: a frontal projection R and S, a lateral one A
    and S, a slice or volume all three, text none. Token 0 is never masked and holds nothing. ``aligned``: features
    ``batch width *grid`` of the senders, by the grid on which they lie; 0 where the sender is absent (method F7).
    ``summary``: the sum of the summaries of the senders, ``batch width``; ``None`` where none sends one.
    """

    tokens: Tensor
    mask: Tensor
    position_mm: Tensor
    axes: Tensor
    aligned: Mapping[PatientGrid, Tensor] = field(default_factory=dict)
    summary: Tensor | None = None

    def __getitem__(self, index: Any) -> Context:
        """Return the context of the chosen rows (a slice, a list or an index tensor)."""
        return Context(
            tokens=self.tokens[index],
            mask=self.mask[index],
            position_mm=self.position_mm[index],
            axes=self.axes[index],
            aligned={grid: features[index] for grid, features in self.aligned.items()},
            summary=None if self.summary is None else self.summary[index],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioning:
    """All that a denoiser is conditioned on. Every transformer block receives it as an argument.

    ``prompt`` ``batch length width`` with ``prompt_mask`` bool ``batch length`` (``None``: all count);
    ``pooled`` ``batch width`` for denoisers that take one (SDXL). ``context`` ``None``: no other output takes part, and
    the context attention is skipped. In both masks true means "attend" and column 0 is always true.
    """

    prompt: Tensor
    prompt_mask: Tensor | None = None
    pooled: Tensor | None = None
    context: Context | None = None

    def __getitem__(self, index: Any) -> Conditioning:
        """Return the conditioning of the chosen rows (a slice, a list or an index tensor)."""
        mask, pooled, context = self.prompt_mask, self.pooled, self.context
        return Conditioning(
            prompt=self.prompt[index],
            prompt_mask=None if mask is None else mask[index],
            pooled=None if pooled is None else pooled[index],
            context=None if context is None else context[index],
        )


class ArchiveMember(NamedTuple):
    """One picture of an archive. ``array`` names its array, where the archive holds several arrays of pictures."""

    array: str | None
    number: int


@dataclass(frozen=True, slots=True)
class FileRef:
    """A picture that has no file to itself: the archive in which it lies, and which of the pictures there it is.

    Its text, ``images.npz#17`` or ``dermamnist.npz#val_images:17``, stands in messages, manifests and commands; only
    `file_ref` reads that text.
    """

    path: Path
    member: ArchiveMember

    def __str__(self) -> str:
        """Return the text form."""
        return f"{self.path}{self.suffix}"

    @property
    def suffix(self) -> str:
        """Return what the text form adds to the path, such as ``#17``."""
        array, number = self.member
        return f"#{number}" if array is None else f"#{array}:{number}"


DataFile = Path | FileRef  # what a study names: a file or folder, or a picture in an archive
_IN_ARCHIVE = re.compile(r"(?P<path>.+\.npz)#(?:(?P<array>[^#:]+):)?(?P<number>[0-9]{1,9})", re.IGNORECASE | re.DOTALL)


def file_ref(file: DataFile) -> DataFile:
    """Return the picture in an archive that a path such as ``images.npz#17`` names; any other path as it is."""
    match = _IN_ARCHIVE.fullmatch(str(file)) if isinstance(file, Path) else None
    return file if match is None else FileRef(Path(match["path"]), ArchiveMember(match["array"], int(match["number"])))


def path_on_disk(file: DataFile) -> Path:
    """Return the path of the file or folder itself: of a picture in an archive, that of the archive."""
    return file.path if isinstance(file, FileRef) else file


@dataclass(frozen=True, kw_only=True)
class Record:
    """A row of the manifest: one study. Names, paths and texts, never pixels.

    ``files`` gives a *list* per modality (two earlier X-rays are normal); a path ``images.npz#17`` becomes a `FileRef`.
    ``texts`` gives the texts of the row itself, such as a report in a column. ``labels``: 1 present, 0 absent, missing
    when unknown. ``strata`` are groups within which patients resemble each other (sex, habitus): a fair comparison
    stays within a stratum. ``split``: ``train``, ``validation`` or ``test``; ``pool``: the flow round whose training
    may see this patient, ``None`` for any. ``dataset``: its name in the registry.
    """

    patient: str
    study: str
    files: Mapping[str, tuple[DataFile, ...]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    split: Split = "train"
    pool: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    strata: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""

    def __post_init__(self) -> None:
        lists = {name: files for name, files in self.files.items() if isinstance(files, (tuple, list))}
        if any("#" in str(file) for files in lists.values() for file in files):
            refs = {name: tuple(map(file_ref, files)) for name, files in lists.items()}
            object.__setattr__(self, "files", {**self.files, **refs})

    def has(self, modality: str) -> bool:
        """Return whether the study has this modality, as a file or as a text."""
        return bool(self.files.get(modality) or self.texts.get(modality))


class Provenance(BaseModel):
    """How a file was generated; written into the file and into ``<path>.json``.

    A prompt that came from a file is written as modality and SHA-256, not as content, unless the user wishes it.
    ``sampling`` holds how it was drawn: solver, steps, the settings of guidance, coupling, and weights of prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    synthetic: Literal[True] = True
    model: str
    recipe: str
    prompts: Mapping[str, str] = {}
    seed: int
    index: int = 0
    sampling: Mapping[str, str] = {}
    versions: Mapping[str, str] = {}
