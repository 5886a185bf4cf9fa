"""Laws of a writer: sample to a file that says inside itself that it is synthetic."""

from __future__ import annotations

import gzip
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.testing.laws import Bench, LawBroken, NotApplicable, demand, law
from core.testing.preprocess import demand_close
from core.types import Sample


def _written(bench: Bench, writer: Any) -> Path:
    """The first sample, written into a fresh folder."""
    path = Path(tempfile.mkdtemp(dir=bench.folder)) / f"sample{writer.suffix}"
    writer.write(bench.fresh()[0], path, bench.provenance())
    return path


def _files(path: Path) -> list[Path]:
    """The file, or those of the folder."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


@law
def reads_back(bench: Bench) -> None:
    """The modality's reader gives data (within ``tolerance``) and geometry back, also of an oblique grid.

    Of other formats those whose files have a suffix that it reads.
    """
    writers = bench.writers()
    if bench.parts.reader is None:
        raise NotApplicable("no reader")
    reader = bench.part("reader")
    for name, writer in writers.items():
        if name != "writer" and _files(_written(bench, writer))[0].suffix not in reader.suffixes:
            continue
        folder = Path(tempfile.mkdtemp(dir=bench.folder))
        for number, expected in enumerate([bench.fresh()[0], _oblique(bench.fresh()[1])]):
            path = folder / f"again{number}{writer.suffix}"
            writer.write(expected, path, bench.provenance())
            _demand_same(name, expected, reader.read(path), float(writer.tolerance))


def _demand_same(name: str, expected: Sample, found: Sample, tolerance: float) -> None:
    demand_close(expected, found, tolerance)
    if expected.geometry is None:
        return
    if found.geometry is None:
        raise LawBroken(f"{name}: the geometry was lost")
    gap = abs(found.geometry.affine - expected.geometry.affine).max()
    same = gap < 1e-4 and found.geometry.shape == expected.geometry.shape
    demand(same, f"{name}: the affine is off by {gap:.3g} mm")


def _oblique(sample: Sample) -> Sample:
    """The sample turned by 7 degrees about S and moved, as scanners deliver them."""
    if sample.geometry is None:
        return sample
    c, s = np.cos(np.radians(7)), np.sin(np.radians(7))
    turn = np.array([[c, -s, 0, 11.5], [s, c, 0, -23.25], [0, 0, 1, 47.0], [0, 0, 0, 1]])
    return replace(sample, geometry=replace(sample.geometry, affine=turn @ sample.geometry.affine))


@law
def marks_the_file_synthetic(bench: Bench) -> None:
    """The bytes of the file itself (of every file, where there is a folder) hold the word "synthetic"."""
    for name, writer in bench.writers().items():
        for path in _files(_written(bench, writer)):
            content = path.read_bytes()
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            demand(b"synthetic" in content.lower(), f"{name}: {path.name} does not say that it is synthetic")


@law
def refuses_to_overwrite(bench: Bench) -> None:
    """An existing file is a `UserError` and stays as it is, unless overwriting was asked for."""
    for name, writer in bench.writers().items():
        path = _written(bench, writer)
        files = _files(path)
        for one in files:
            one.write_bytes(b"precious")
        try:
            writer.write(bench.fresh()[0], path, bench.provenance())
        except UserError as error:
            demand(path.name in str(error), f"{name}: the error does not name {path.name}: {error}")
        else:
            raise LawBroken(f"{name}: an existing file was overwritten")
        demand(all(one.read_bytes() == b"precious" for one in files), f"{name}: an existing file was changed")
        writer.write(bench.fresh()[0], path, bench.provenance(), overwrite=True)
        kept = [one.name for one in _files(path) if one.read_bytes() == b"precious"]
        demand(not kept, f"{name}: overwrite=True did not overwrite {', '.join(kept)}")


@law
def leaves_no_stray_file(bench: Bench) -> None:
    """After writing there is the file, at most with sidecars of the same stem; a failed write leaves nothing."""
    for name, writer in bench.writers().items():
        path = _written(bench, writer)
        stem = path.name.partition(".")[0]
        stray = [entry.name for entry in path.parent.iterdir() if entry.name.partition(".")[0] != stem]
        demand(not stray, f"{name}: left behind: {', '.join(stray)}")
        _demand_no_folder_is_made(bench, name, writer, path)


def _demand_no_folder_is_made(bench: Bench, name: str, writer: Any, path: Path) -> None:
    nowhere = path.parent / "missing-folder" / path.name
    try:
        writer.write(bench.fresh()[0], nowhere, bench.provenance())
    except UserError as error:
        demand("missing-folder" in str(error), f"{name}: the error does not name the folder: {error}")
    except Exception as error:
        raise LawBroken(f"{name}: a missing folder gives {type(error).__name__} instead of a UserError") from error
    stray = [entry for entry in path.parent.iterdir() if "tmp" in entry.name or entry.name == "missing-folder"]
    demand(not stray, f"{name}: a failed write left something behind")
