"""Laws of a writer: sample to a file that says inside itself that it is synthetic."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.testing.laws import Bench, LawBroken, NotApplicable, demand, law
from core.testing.preprocess import demand_close
from core.types import Sample


def _written(bench: Bench) -> tuple[Any, Path]:
    writer = bench.part("writer")
    return writer, bench.file()


@law
def reads_back(bench: Bench) -> None:
    """The modality's reader gives data (within ``tolerance``) and geometry back, also of an oblique grid."""
    writer = bench.part("writer")
    if bench.parts.reader is None:
        raise NotApplicable("no reader")
    reader, folder = bench.part("reader"), bench.file().parent
    for number, expected in enumerate([bench.fresh()[0], _oblique(bench.fresh()[1])]):
        path = folder / f"again{number}{writer.suffix}"
        writer.write(expected, path, bench.provenance())
        found = reader.read(path)
        demand_close(expected, found, float(writer.tolerance))
        if expected.geometry is not None:
            if found.geometry is None:
                raise LawBroken("the geometry was lost")
            gap = abs(found.geometry.affine - expected.geometry.affine).max()
            demand(gap < 1e-4 and found.geometry.shape == expected.geometry.shape, f"the affine is off by {gap:.3g} mm")


def _oblique(sample: Sample) -> Sample:
    """The sample turned by 7 degrees about S and moved, as scanners deliver them."""
    if sample.geometry is None:
        return sample
    c, s = np.cos(np.radians(7)), np.sin(np.radians(7))
    turn = np.array([[c, -s, 0, 11.5], [s, c, 0, -23.25], [0, 0, 1, 47.0], [0, 0, 0, 1]])
    return replace(sample, geometry=replace(sample.geometry, affine=turn @ sample.geometry.affine))


@law
def marks_the_file_synthetic(bench: Bench) -> None:
    """The bytes of the file itself hold the word "synthetic"."""
    _, path = _written(bench)
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    demand(b"synthetic" in content.lower(), f"{path.name} does not say that it is synthetic")


@law
def refuses_to_overwrite(bench: Bench) -> None:
    """An existing file is a `UserError` and stays as it is, unless overwriting was asked for."""
    writer, path = _written(bench)
    path.write_bytes(b"precious")
    try:
        writer.write(bench.samples[0], path, bench.provenance())
    except UserError as error:
        demand(path.name in str(error), f"the error does not name {path.name}: {error}")
    else:
        raise LawBroken("an existing file was overwritten")
    demand(path.read_bytes() == b"precious", "an existing file was changed")
    writer.write(bench.samples[0], path, bench.provenance(), overwrite=True)
    demand(path.read_bytes() != b"precious", "overwrite=True did not overwrite")


@law
def leaves_no_stray_file(bench: Bench) -> None:
    """After writing there is the file, at most with sidecars of the same stem; a failed write leaves nothing."""
    writer, path = _written(bench)
    stem = path.name.partition(".")[0]
    stray = [entry.name for entry in path.parent.iterdir() if entry.name.partition(".")[0] != stem]
    demand(not stray, f"left behind: {', '.join(stray)}")
    nowhere = path.parent / "missing-folder" / path.name
    try:
        writer.write(bench.samples[0], nowhere, bench.provenance())
    except UserError as error:
        demand("missing-folder" in str(error), f"the error does not name the folder: {error}")
    except Exception as error:
        raise LawBroken(f"a missing folder gives {type(error).__name__} instead of a UserError") from error
    demand(not [entry for entry in path.parent.iterdir() if "tmp" in entry.name], "a failed write left a file behind")
