"""Files per second of one core, before and after ``core.prepare``: radiographs in DICOM and as PNG, at 256 pixels.

The peer decodes the same files with pydicom or Pillow and does nothing else: no checks, no units, no resizing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

FILES, SIDE = 48, 1024
PRESET, MODALITY = "small", "xray_frontal"


def measure() -> list[dict[str, Any]]:
    """A row per format and way; ``ratio`` to the peer."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, write, decode in (("DICOM", write_dicom, decode_dicom), ("PNG", write_png, decode_png)):
            root = Path(folder) / kind
            root.mkdir()
            for seed in range(FILES):
                write(root, seed)
            rows += measured(kind, root, decode)
    return rows


def measured(kind: str, root: Path, decode: Callable[[Path], Any]) -> list[dict[str, Any]]:
    """The four ways of one format."""
    from core.contract.discovery import discover
    from core.data.prepared.prepare import PrepareRequest, prepare
    from core.data.prepared.samples import PreparedSamples
    from core.data.prepared.settings import settings_of
    from core.data.studies import Studies
    from core.types import Record

    parts = {MODALITY: discover().modalities[MODALITY].parts(PRESET)}
    records = [
        Record(patient=path.stem, study=path.stem, files={MODALITY: (path,)}, dataset="bench")
        for path in sorted(root.iterdir())
    ]
    settings = settings_of(MODALITY, parts[MODALITY])
    request = PrepareRequest(
        dataset="bench", root=root, out=root.with_name(f"{kind}.prepared"), preset=PRESET, source="bench",
        records=records, split=lambda record: record, choose=lambda found: {MODALITY: settings}, silent=True,
    )  # fmt: skip
    seen = [(MODALITY,)] * FILES
    taken = PreparedSamples("bench", request.folder, root, {MODALITY: settings.digest})
    plain, prepared = Studies(records, seen, parts), Studies(records, seen, parts, None, {"bench": taken})
    decode(next(root.iterdir()))  # libraries are imported once
    plain.sample(MODALITY, 0)
    peer = rate(decode, (record.files[MODALITY][0] for record in records))
    ways = {
        "decoded alone (peer)": peer,
        "read for training": rate(lambda place: Studies(records, seen, parts).sample(MODALITY, place), range(FILES)),
        "core.prepare, audit alone": FILES / seconds(lambda: prepare(replace(request, keep=False, records=records))),
        "core.prepare": FILES / seconds(lambda: prepare(replace(request, records=records))),
        "core.prepare, again": FILES / seconds(lambda: prepare(replace(request, records=records))),
        "prepared, first time": rate(lambda place: prepared.sample(MODALITY, place), range(FILES)),
        "prepared, later": rate(lambda place: prepared.sample(MODALITY, place), range(FILES)),
    }
    return [
        {"format": kind, "way": way, "files_per_s": round(value, 1), "ratio": round(value / peer, 2)}
        for way, value in ways.items()
    ]


def rate(do: Callable[[Any], Any], items: Iterable[Any]) -> float:
    """Items per second."""
    items = list(items)
    return len(items) / seconds(lambda: [do(item) for item in items])


def seconds(do: Callable[[], Any]) -> float:
    """Wall-clock time, one process."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def pixels(seed: int) -> np.ndarray:
    """A smooth picture with noise, 12 bits."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    smooth = np.sin(rows * rng.uniform(2, 5)) * np.cos(columns * rng.uniform(2, 5))
    return np.clip(2000 + 1500 * smooth + rng.normal(0, 20, (SIDE, SIDE)), 0, 4095).astype(np.uint16)


def write_png(folder: Path, seed: int) -> None:
    """8 bits of grey."""
    from PIL import Image

    Image.fromarray((pixels(seed) >> 4).astype(np.uint8)).save(folder / f"{seed:03d}.png")


def decode_png(path: Path) -> np.ndarray:
    """The numbers of a PNG."""
    from PIL import Image

    return np.asarray(Image.open(path))


def write_dicom(folder: Path, seed: int) -> None:
    """A computed radiograph, 12 bits, not compressed."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = (
        ComputedRadiographyImageStorage,
        generate_uid(),
        generate_uid(),
    )
    image.Modality, image.ViewPosition, image.ImagerPixelSpacing = "CR", "PA", [0.4, 0.4]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = SIDE
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = pixels(seed).tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(folder / f"{seed:03d}.dcm", enforce_file_format=True)


def decode_dicom(path: Path) -> np.ndarray:
    """The stored numbers of an instance."""
    import pydicom

    return pydicom.dcmread(path).pixel_array
