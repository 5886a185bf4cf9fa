"""Two toy modalities that build in milliseconds, and a cohort in which one explains the other.

``toy_grid`` is an 8x8 picture of one bright blob, ``toy_vector`` four numbers that state its position, width and
brightness. They implement the whole contract in small; tests of the kit, the planner and the trainer use them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.contract.hookspecs import hookimpl
from core.contract.modality import DatasetAdapter, Modality, PartConfig, Parts
from core.errors import UserError
from core.types import DataSpec, Geometry, Provenance, Record, Sample, Space

_LIST = "cohort.json"
_HEADER = "about"  # the one entry of a file's metadata: several would stand in an order of chance
_GRID = Geometry(affine=np.diag([2.0, 2.0, 2.0, 1.0]), shape=(8, 8))


class ToyReaderConfig(PartConfig):
    """Reads a toy file into the modality of this name."""

    modality: str

    def build(self) -> ToyReader:
        """Make the reader."""
        return ToyReader(self.modality)


class ToyReader:
    """One array per ``.toy`` file: safetensors with the affine and a JSON header."""

    suffixes = (".toy",)

    def __init__(self, modality: str) -> None:
        self.modality = modality

    def read(self, path: Path) -> Sample:
        """Return the array in stored units; `UserError` that names the file where it is not a toy file."""
        from safetensors import safe_open

        try:
            with safe_open(path, "np") as file:
                content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                about = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
        except Exception as error:
            raise UserError(f"{path}: not a readable toy file ({error})") from error
        if "data" not in content or not np.isfinite(content["data"]).all():
            raise UserError(f"{path}: expected a finite array 'data', found {sorted(content)}")
        data, affine = content["data"], content.get("affine")
        geometry = None if affine is None else Geometry(affine=affine, shape=data.shape[1:])
        meta = {"synthetic": True} if about.get("synthetic") else {}
        return Sample(modality=self.modality, data=data, geometry=geometry, meta=meta)


class ToyWriterConfig(PartConfig):
    """Writes toy files."""

    def build(self) -> ToyWriter:
        """Make the writer."""
        return ToyWriter()


class ToyWriter:
    """Writes what `ToyReader` reads; the header says "synthetic" and holds the provenance."""

    suffix = ".toy"
    tolerance = 0.0

    def write(self, sample: Sample, path: Path, provenance: Provenance, *, overwrite: bool = False) -> None:
        """Write through a temporary file; `UserError` for an existing file unless ``overwrite``."""
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists; choose another folder or allow overwriting")
        if not path.parent.is_dir():
            raise UserError(f"{path.parent}: no such folder")
        write_array(path, sample, provenance)


def write_array(path: Path, sample: Sample, provenance: Provenance | None = None) -> None:
    """Write one toy file; with a provenance it is marked synthetic."""
    from safetensors.numpy import save_file

    arrays = {"data": np.ascontiguousarray(sample.data)}
    if sample.geometry is not None:
        arrays["affine"] = np.ascontiguousarray(sample.geometry.affine)
    made = {} if provenance is None else {"synthetic": True, "provenance": provenance.model_dump(mode="json")}
    partial = path.with_name(f".{path.name}.part")
    save_file(arrays, partial, metadata={_HEADER: json.dumps({"modality": sample.modality, **made})})
    partial.replace(path)


class ToyPreprocessConfig(PartConfig):
    """Scales [0, 100] to [-1, 1]."""

    default_affine: tuple[float, ...] | None = None
    shape: Space = ()

    def build(self) -> ToyPreprocess:
        """Make the preprocessor."""
        affine = None if self.default_affine is None else np.array(self.default_affine).reshape(4, 4)
        return ToyPreprocess(None if affine is None else Geometry(affine=affine, shape=self.shape))


class ToyPreprocess:
    """Linear scaling; a sample marked canonical in ``meta`` is returned unchanged."""

    tolerance = 1e-3

    def __init__(self, default: Geometry | None) -> None:
        self.default = default

    def apply(self, sample: Sample) -> Sample:
        """Scale units 0..100 to [-1, 1], clipped."""
        if sample.meta.get("canonical"):
            return sample
        if self.default is not None and np.shape(sample.data)[1:] != self.default.shape:
            raise UserError(f"a toy picture has shape {self.default.shape}, found {np.shape(sample.data)[1:]}")
        data = np.clip(np.asarray(sample.data) / 50 - 1, -1, 1).astype(np.float32)
        return replace(sample, data=data, meta={**sample.meta, "canonical": True})

    def invert(self, sample: Sample, like: Geometry | None = None) -> Sample:
        """Scale [-1, 1] back to units 0..100."""
        data = ((np.asarray(sample.data) + 1) * 50).astype(np.float32)
        return replace(sample, data=data, geometry=like if like is not None else self.default, meta={})


class ToyAugmentConfig(PartConfig):
    """Adds noise of this standard deviation."""

    noise: float = 0.05

    def build(self) -> ToyAugment:
        """Make the augmenter."""
        return ToyAugment(self.noise)


class ToyAugment:
    """Adds noise only: positions and sides are preserved."""

    keeps = ("side", "place")

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def view(self, sample: Sample, generator: Any) -> Sample:
        """Return the sample plus noise from the generator, clipped to [-1, 1]."""
        import torch

        data = np.asarray(sample.data)
        noise = torch.randn(data.shape, generator=generator).numpy()
        return replace(sample, data=np.clip(data + self.noise * noise, -1, 1).astype(np.float32))


class ToyPromptConfig(PartConfig):
    """Prompt encoder for ``channels`` x ``space`` data."""

    channels: int
    space: Space = ()
    width: int = 16

    def build(self) -> Any:
        """Make the module."""
        from core.testing.toy_nets import ToyPromptEncoder

        return ToyPromptEncoder(self.channels, self.space, self.width)


class ToyAutoencoderConfig(PartConfig):
    """Autoencoder for ``channels`` x ``space`` data."""

    modality: str
    channels: int
    space: Space = ()
    latent_channels: int = 2
    kl_weight: float = 1e-6

    def build(self) -> Any:
        """Make the module."""
        from core.testing.toy_nets import ToyAutoencoder

        return ToyAutoencoder(self.modality, self.channels, self.space, self.latent_channels, self.kl_weight)


class ToyDenoiserConfig(PartConfig):
    """Denoiser for latents ``channels`` x ``space``."""

    channels: int
    space: Space = ()
    width: int = 32
    prompt_width: int = 16

    def build(self) -> Any:
        """Make the module."""
        from core.testing.toy_nets import ToyDenoiser

        return ToyDenoiser(self.channels, self.space, self.width, self.prompt_width)


def _parts(name: str, channels: int, space: Space, latent: tuple[int, Space], geometry: Geometry | None) -> Parts:
    kind = "grid" if space else "vector"
    affine = None if geometry is None else tuple(geometry.affine.ravel().tolist())
    return Parts(
        data=DataSpec(
            kind=kind, space=space, channels=channels, units="percent", value_range=(0, 100), default_geometry=geometry
        ),
        reader=ToyReaderConfig(modality=name),
        preprocess=ToyPreprocessConfig(default_affine=affine, shape=space),
        augment=ToyAugmentConfig(),
        prompt=ToyPromptConfig(channels=channels, space=space),
        autoencoder=ToyAutoencoderConfig(modality=name, channels=channels, space=space, latent_channels=latent[0]),
        denoiser=ToyDenoiserConfig(channels=latent[0], space=latent[1]),
        writer=ToyWriterConfig(),
    )


TOY_GRID = Modality(
    name="toy_grid",
    title="Toy picture of one blob",
    presets={"tiny": _parts("toy_grid", 1, (8, 8), (2, (4, 4)), _GRID)},
)
TOY_VECTOR = Modality(
    name="toy_vector", title="Toy description of a blob", presets={"tiny": _parts("toy_vector", 4, (), (4, ()), None)}
)


def make_cohort(root: Path, num: int | None = None, seed: int | None = None) -> None:
    """Write the toy cohort, or leave a finished one unchanged; `UserError` where it has other settings."""
    if not (root / _LIST).exists():
        write_cohort(root, 400 if num is None else num, seed or 0)
        return
    written = _settings(root)
    for name, requested in (("num", num), ("seed", seed)):
        if requested not in (None, written.get(name)):
            raise UserError(
                f"{root} holds a toy cohort with {name} {written.get(name)}, requested: {requested}; choose another"
                " folder"
            )


def write_cohort(root: Path, num: int, seed: int = 0) -> None:
    """Write ``num`` toy studies (JSON list and toy files): 80 % training, 10 % validation, 10 % test."""
    root.mkdir(parents=True, exist_ok=True)
    for index in range(num):
        vector, picture = draw_study(np.random.default_rng((seed, index)))
        write_array(root / f"{index}_vector.toy", Sample(modality="toy_vector", data=vector))
        write_array(root / f"{index}_grid.toy", Sample(modality="toy_grid", data=picture, geometry=_GRID))
    # Written last, by a rename: an interrupted cohort has no list, and is written again.
    partial = root / f".{_LIST}.part"
    partial.write_text(json.dumps({"num": num, "seed": seed}), encoding="utf-8")
    partial.replace(root / _LIST)


def draw_study(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a vector (row, column, width, brightness; percent) and the 1x8x8 picture that it describes."""
    row, column, width, brightness = vector = rng.uniform(10, 90, 4).astype(np.float32)
    y, x = np.mgrid[0:8, 0:8] * (100 / 7)
    blob = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * (10 + width / 4) ** 2))
    return vector, (blob * (40 + 0.6 * brightness))[None].astype(np.float32)


def scan(root: Path) -> Iterator[Record]:
    """Yield a record per toy study."""
    for index in range(_settings(root)["num"]):
        split = "train" if index % 10 < 8 else "validation" if index % 10 == 8 else "test"
        files = {
            name: (root / f"{index}_{name.removeprefix('toy_')}.toy",) for name in (TOY_VECTOR.name, TOY_GRID.name)
        }
        yield Record(patient=f"toy-{index}", study=f"toy-{index}", files=files, split=split)


def _settings(root: Path) -> dict[str, int]:
    """Return the settings of a toy cohort; `UserError` where the list is missing or damaged."""
    try:
        settings = json.loads((root / _LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{root}: no toy cohort there ({error})") from error
    num = settings.get("num") if isinstance(settings, dict) else None
    if not isinstance(num, int) or num < 1:
        raise UserError(
            f"{root / _LIST}: expected a number of studies 'num', found {str(settings)[:60]}; remove the folder"
            f" {root}; it is made again"
        )
    return settings


@hookimpl
def register_modalities() -> Sequence[Modality]:
    """Return the two toy modalities."""
    return [TOY_GRID, TOY_VECTOR]


@hookimpl
def register_datasets() -> Sequence[DatasetAdapter]:
    """Return the toy data set."""
    return [
        DatasetAdapter(
            name="toy",
            title="Toy blobs and their descriptions",
            modalities=("toy_vector", "toy_grid"),
            licence="Apache-2.0",
            weights_may_be_shared=True,
            citation="MedWeave",
            scan=scan,
            make=make_cohort,
        )
    ]
