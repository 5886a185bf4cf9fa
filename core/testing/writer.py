"""Contract checks of a writer: sample to a file that is marked synthetic in its content."""

from __future__ import annotations

import gzip
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.testing.checks import CheckContext, CheckFailed, NotApplicable, check, require
from core.testing.preprocess import require_close
from core.types import Sample


def _written(ctx: CheckContext, writer: Any) -> Path:
    """Write the first sample into a fresh folder and return its path."""
    path = Path(tempfile.mkdtemp(dir=ctx.folder)) / f"sample{writer.suffix}"
    writer.write(ctx.fresh()[0], path, ctx.provenance())
    return path


def _files(path: Path) -> list[Path]:
    """Return the file, or those of the folder."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


@check
def reads_back(ctx: CheckContext) -> None:
    """The modality's reader restores data (within ``tolerance``) and geometry, also of an oblique grid.

    Other formats are read back where the reader lists the suffix of their files.
    """
    writers = ctx.writers()
    if ctx.parts.reader is None:
        raise NotApplicable("no reader")
    reader = ctx.part("reader")
    for name, writer in writers.items():
        if name != "writer" and _files(_written(ctx, writer))[0].suffix not in reader.suffixes:
            continue
        folder = Path(tempfile.mkdtemp(dir=ctx.folder))
        for number, expected in enumerate([ctx.fresh()[0], _oblique(ctx.fresh()[1])]):
            path = folder / f"again{number}{writer.suffix}"
            writer.write(expected, path, ctx.provenance())
            _require_same(name, expected, reader.read(path), float(writer.tolerance))


def _require_same(name: str, expected: Sample, result: Sample, tolerance: float) -> None:
    require_close(expected, result, tolerance)
    if expected.geometry is None:
        return
    if result.geometry is None:
        raise CheckFailed(f"{name}: the geometry was lost")
    gap = abs(result.geometry.affine - expected.geometry.affine).max()
    same = gap < 1e-4 and result.geometry.shape == expected.geometry.shape
    require(same, f"{name}: the affine is off by {gap:.3g} mm")


def _oblique(sample: Sample) -> Sample:
    """Return the sample rotated by 7 degrees about S and shifted, as scanners deliver them."""
    if sample.geometry is None:
        return sample
    c, s = np.cos(np.radians(7)), np.sin(np.radians(7))
    turn = np.array([[c, -s, 0, 11.5], [s, c, 0, -23.25], [0, 0, 1, 47.0], [0, 0, 0, 1]])
    return replace(sample, geometry=replace(sample.geometry, affine=turn @ sample.geometry.affine))


@check
def marks_the_file_synthetic(ctx: CheckContext) -> None:
    """The bytes of the file itself (of every file, where there is a folder) contain the word "synthetic"."""
    for name, writer in ctx.writers().items():
        for path in _files(_written(ctx, writer)):
            content = path.read_bytes()
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            require(b"synthetic" in content.lower(), f"{name}: {path.name} is not marked synthetic")


@check
def refuses_to_overwrite(ctx: CheckContext) -> None:
    """An existing file is a `UserError` and stays unchanged, unless overwriting was requested."""
    for name, writer in ctx.writers().items():
        path = _written(ctx, writer)
        files = _files(path)
        for file in files:
            file.write_bytes(b"precious")
        try:
            writer.write(ctx.fresh()[0], path, ctx.provenance())
        except UserError as error:
            require(path.name in str(error), f"{name}: the error does not name {path.name}: {error}")
        else:
            raise CheckFailed(f"{name}: an existing file was overwritten")
        require(all(file.read_bytes() == b"precious" for file in files), f"{name}: an existing file was changed")
        writer.write(ctx.fresh()[0], path, ctx.provenance(), overwrite=True)
        unchanged = [file.name for file in _files(path) if file.read_bytes() == b"precious"]
        require(not unchanged, f"{name}: overwrite=True did not overwrite {', '.join(unchanged)}")


@check
def leaves_no_stray_file(ctx: CheckContext) -> None:
    """Writing leaves the file, at most with sidecars of the same stem; a failed write leaves nothing."""
    for name, writer in ctx.writers().items():
        path = _written(ctx, writer)
        stem = path.name.partition(".")[0]
        stray = [entry.name for entry in path.parent.iterdir() if entry.name.partition(".")[0] != stem]
        require(not stray, f"{name}: left behind: {', '.join(stray)}")
        _require_no_folder_made(ctx, name, writer, path)


def _require_no_folder_made(ctx: CheckContext, name: str, writer: Any, path: Path) -> None:
    nowhere = path.parent / "missing-folder" / path.name
    try:
        writer.write(ctx.fresh()[0], nowhere, ctx.provenance())
    except UserError as error:
        require("missing-folder" in str(error), f"{name}: the error does not name the folder: {error}")
    except Exception as error:
        raise CheckFailed(f"{name}: a missing folder gives {type(error).__name__} instead of a UserError") from error
    stray = [entry for entry in path.parent.iterdir() if "tmp" in entry.name or entry.name == "missing-folder"]
    require(not stray, f"{name}: a failed write left something behind")
