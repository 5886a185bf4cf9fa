"""Contract checks of a reader: file to sample."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from core.errors import UserError
from core.testing.checks import CheckContext, CheckFailed, NotApplicable, check, require
from core.types import Sample


def _files(ctx: CheckContext) -> list[Path]:
    if ctx.parts.reader is None:
        raise NotApplicable("no reader")
    return ctx.examples()


@check
def suffixes_name_its_files(ctx: CheckContext) -> None:
    """The reader lists the suffixes it reads; the modality's writer and the examples use them."""
    suffixes = ctx.part("reader").suffixes
    require(bool(suffixes) and all(suffix.startswith(".") for suffix in suffixes), f"suffixes are {suffixes!r}")
    if ctx.parts.writer is not None:
        written = ctx.part("writer").suffix
        require(written in suffixes, f"the writer makes '{written}', the reader reads {suffixes}")
    for path in ctx.files:
        require(path.name.lower().endswith(tuple(suffixes)), f"{path.name}: the reader reads {suffixes}")


@check
def gives_finite_data_with_geometry(ctx: CheckContext) -> None:
    """Data is finite float32 ``channel *space``, or text; a geometry is present and fits the shape."""
    for path in _files(ctx):
        _require_sample(ctx, ctx.part("reader").read(path))


def _require_sample(ctx: CheckContext, sample: Sample) -> None:
    require(sample.modality == ctx.modality.name, f"the sample is called '{sample.modality}'")
    if isinstance(sample.data, str):
        require(bool(sample.data), "the text is empty")
        return
    require(sample.data.dtype == np.float32, f"data is {sample.data.dtype}, expected float32")
    require(bool(np.isfinite(sample.data).all()), "data has NaN or infinite values")
    if ctx.parts.data.kind == "grid":
        if sample.geometry is None:
            raise CheckFailed("an image or volume has no geometry")
        shape = sample.data.shape[1:]
        require(shape == sample.geometry.shape, f"data is {shape}, its geometry {sample.geometry.shape}")


@check
def errors_name_the_file(ctx: CheckContext) -> None:
    """A missing and an empty file are a `UserError` that names the file."""
    for path in _files(ctx):
        empty = path.with_name(f"empty{path.suffix if path.suffix != '.gz' else '.nii.gz'}")
        empty.write_bytes(b"")
        for broken in (path.with_name(f"missing{empty.suffix}"), empty):
            _require_refusal(ctx, broken)


def _require_refusal(ctx: CheckContext, broken: Path) -> None:
    try:
        ctx.part("reader").read(broken)
    except UserError as error:
        require(broken.name in str(error), f"the error does not name {broken.name}: {error}")
    except Exception as error:
        raise CheckFailed(f"{broken.name}: {type(error).__name__} instead of a UserError: {error}") from error
    else:
        raise CheckFailed(f"{broken.name} was read without an error")


@check
def truncation_is_seen_or_harmless(ctx: CheckContext) -> None:
    """Half a file is a `UserError` that names it, or still a finite sample; nothing else."""
    for path in _files(ctx):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
            sample = ctx.part("reader").read(path)
        except UserError as error:
            require(path.name in str(error), f"the error does not name {path.name}: {error}")
        except Exception as error:
            raise CheckFailed(f"half a file gives {type(error).__name__} instead of a UserError: {error}") from error
        else:
            require(isinstance(sample.data, str) or bool(np.isfinite(sample.data).all()), "half a file gives NaN")


@check
def never_writes(ctx: CheckContext) -> None:
    """Reading changes no file and adds none."""
    for path in _files(ctx):
        before = _listing(path.parent)
        ctx.part("reader").read(path)
        require(_listing(path.parent) == before, "the folder is not as it was before reading")


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    entries = [(entry, entry.stat()) for entry in os.scandir(folder)]
    return {entry.name: (stat.st_size, stat.st_mtime_ns) for entry, stat in entries}
