"""Laws of a reader: file to sample."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from core.errors import UserError
from core.testing.laws import Bench, LawBroken, NotApplicable, demand, law
from core.types import Sample


def _files(bench: Bench) -> list[Path]:
    if bench.parts.reader is None:
        raise NotApplicable("no reader")
    return bench.examples()


@law
def suffixes_name_its_files(bench: Bench) -> None:
    """The reader lists the suffixes it reads; its modality's writer makes such files, and the examples are such."""
    suffixes = bench.part("reader").suffixes
    demand(bool(suffixes) and all(suffix.startswith(".") for suffix in suffixes), f"suffixes are {suffixes!r}")
    if bench.parts.writer is not None:
        written = bench.part("writer").suffix
        demand(written in suffixes, f"the writer makes '{written}', the reader reads {suffixes}")
    for path in bench.files:
        demand(path.name.lower().endswith(tuple(suffixes)), f"{path.name}: the reader reads {suffixes}")


@law
def gives_finite_data_with_geometry(bench: Bench) -> None:
    """Data is float32 ``channel *space`` and finite, or text; geometry is there and fits the shape."""
    for path in _files(bench):
        _demand_sample(bench, bench.part("reader").read(path))


def _demand_sample(bench: Bench, sample: Sample) -> None:
    demand(sample.modality == bench.modality.name, f"the sample is called '{sample.modality}'")
    if isinstance(sample.data, str):
        demand(bool(sample.data), "the text is empty")
        return
    demand(sample.data.dtype == np.float32, f"data is {sample.data.dtype}, expected float32")
    demand(bool(np.isfinite(sample.data).all()), "data has NaN or infinite values")
    if bench.parts.data.kind == "grid":
        if sample.geometry is None:
            raise LawBroken("an image or volume came without geometry")
        shape = sample.data.shape[1:]
        demand(shape == sample.geometry.shape, f"data is {shape}, its geometry {sample.geometry.shape}")


@law
def errors_name_the_file(bench: Bench) -> None:
    """A missing and an empty file are a `UserError` that names the file."""
    for path in _files(bench):
        empty = path.with_name(f"empty{path.suffix if path.suffix != '.gz' else '.nii.gz'}")
        empty.write_bytes(b"")
        for broken in (path.with_name(f"missing{empty.suffix}"), empty):
            _demand_refusal(bench, broken)


def _demand_refusal(bench: Bench, broken: Path) -> None:
    try:
        bench.part("reader").read(broken)
    except UserError as error:
        demand(broken.name in str(error), f"the error does not name {broken.name}: {error}")
    except Exception as error:
        raise LawBroken(f"{broken.name}: {type(error).__name__} instead of a UserError: {error}") from error
    else:
        raise LawBroken(f"{broken.name} was read without complaint")


@law
def truncation_is_seen_or_harmless(bench: Bench) -> None:
    """Half a file is a `UserError` that names it, or still a finite sample; nothing else."""
    for path in _files(bench):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
            sample = bench.part("reader").read(path)
        except UserError as error:
            demand(path.name in str(error), f"the error does not name {path.name}: {error}")
        except Exception as error:
            raise LawBroken(f"half a file gives {type(error).__name__} instead of a UserError: {error}") from error
        else:
            demand(isinstance(sample.data, str) or bool(np.isfinite(sample.data).all()), "half a file gives NaN")


@law
def never_writes(bench: Bench) -> None:
    """Reading changes no file and adds none."""
    for path in _files(bench):
        before = _listing(path.parent)
        bench.part("reader").read(path)
        demand(_listing(path.parent) == before, "the folder is not as it was before reading")


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    entries = [(entry, entry.stat()) for entry in os.scandir(folder)]
    return {entry.name: (stat.st_size, stat.st_mtime_ns) for entry, stat in entries}
