"""Mutated DICOM files: a finite sample or one line, soon, and without memory. Seeded; the long run is marked slow."""

import logging
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from core.io import (
    DicomSegWriterConfig,
    RadiographReaderConfig,
    SegmentationReaderConfig,
    SeriesReaderConfig,
    centred,
    organ_segments,
)
from core.types import Provenance, Sample
from tests.unit.io.attack import PLAIN, attack, cut, header_flipped
from tests.unit.io.dicom.dicom_files import cr, ct_series, enhanced, put, save

STORED = np.random.default_rng(0).integers(0, 2000, (4, 16, 16), dtype=np.int16)
VALUES = ["", "0", "-1", "1e400", "nan", "65535", "99999999999", "A\\B", "1\\2\\3\\4\\5\\6\\7", "\x00\xff", "é"]
KEYWORDS = """Rows Columns NumberOfFrames BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel
PhotometricInterpretation ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness RescaleSlope
RescaleIntercept WindowCenter WindowWidth PixelPaddingValue SeriesInstanceUID Modality ImageType ViewPosition
PatientOrientation PixelData SpecificCharacterSet PerFrameFunctionalGroupsSequence SegmentationType SegmentSequence
SegmentNumber ReferencedSegmentNumber MaximumFractionalValue SpacingBetweenSlices CodeValue""".split()

NUM_MUTATIONS = int(os.environ.get("MEDWEAVE_FUZZ", "2500"))  # of each kind of file; make fuzz has 10,000


def retagged(content, draw):
    """A tag deleted, or its bytes replaced by a value that its element may not have."""
    keyword = draw.choice(KEYWORDS)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    name = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    place = content.find(name, 132)
    if place < 0:
        return cut(content, draw)
    value = draw.choice(VALUES).encode("utf-8")
    value += b" " * (len(value) % 2)
    long = content[place + 4 : place + 6] in (b"OW", b"OB", b"SQ", b"UT", b"UN")
    start = place + (12 if long else 8)
    length = int.from_bytes(content[place + 8 : place + 12] if long else content[place + 6 : place + 8], "little")
    if draw.random() < 0.3:
        return content[:place] + content[start + length :]
    if long:
        return content[: place + 8] + len(value).to_bytes(4, "little") + value + content[start + length :]
    if content[place + 4 : place + 6] == b"US":
        return content[:start] + draw.randrange(65536).to_bytes(2, "little") + content[start + 2 :]
    return content[: place + 6] + len(value).to_bytes(2, "little") + value + content[start + length :]


MUTATIONS = (*PLAIN, header_flipped, retagged, retagged)


def of_pydicom(*names):
    return [Path(get_testdata_file(name, download=False)).read_bytes() for name in names]


def compressed(path):
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(path)
    return path


def radiographs(tmp_path):
    stored = STORED[0].astype(np.uint16)
    tags = {"PatientOrientation": ["L", "F"], "WindowCenter": [500, 700], "WindowWidth": [900, 300]}
    plain = save(cr(stored, **tags), tmp_path / "a.dcm").read_bytes()
    dark = save(cr(stored, PhotometricInterpretation="MONOCHROME1", **tags), tmp_path / "a.dcm")
    seeds = [plain, dark.read_bytes(), compressed(dark).read_bytes()]
    return [*seeds, *of_pydicom("JPEG2000.dcm", "CT_small.dcm")], tmp_path / "a.dcm", None


def volumes(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    ct_series(folder, STORED, (0, 0, 0), (0, 0, 2.5), order=range(4), WindowCenter="40", WindowWidth="400")
    plain = (folder / "001.dcm").read_bytes()
    return [plain, compressed(folder / "001.dcm").read_bytes()], folder / "001.dcm", folder


def slices(tmp_path):
    several = save(enhanced(STORED, [(0, 0, 2.0 * k) for k in range(4)]), tmp_path / "a.dcm")
    seeds = [several.read_bytes(), compressed(several).read_bytes()]
    names = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm")
    return [*seeds, *of_pydicom(*names, "MR_small_jp2klossless.dcm")], tmp_path / "a.dcm", None


def segmentations(tmp_path):
    """Binary, fractional and label map, with our mark and without."""
    geometry, told = centred((4, 8, 8), (5.0, 1.0, 1.0), "SPL"), Provenance(model="m", recipe="r", seed=1)
    labels = np.zeros((1, 4, 8, 8), np.float32)
    labels[0, 0, :3], labels[0, 2, 4:], labels[0, 3, :, 2] = 1, 2, 1
    mask, path = Sample(modality="m", data=labels, geometry=geometry), tmp_path / "a.dcm"
    seeds = []
    for form in ("binary", "labelmap"):
        config = DicomSegWriterConfig(segments=organ_segments(("lung", "heart")), dims=3, form=form)
        config.build().write(mask, path, told, overwrite=True)
        dataset = pydicom.dcmread(path)
        dataset.remove_private_tags()
        dataset.save_as(tmp_path / "plain.dcm")
        seeds += [path.read_bytes(), (tmp_path / "plain.dcm").read_bytes()]
    dataset = pydicom.dcmread(tmp_path / "plain.dcm")
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 2
    del dataset.SegmentSequence[0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.SegmentIdentificationSequence = [put(pydicom.Dataset(), ReferencedSegmentNumber=1)]
    dataset.save_as(tmp_path / "plain.dcm")
    return [*seeds, (tmp_path / "plain.dcm").read_bytes()], path, None


@pytest.fixture(autouse=True)
def silent():
    """pytest keeps every record that pydicom logs, and with it the arrays of its traceback."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


CASES = {
    "radiograph": (
        RadiographReaderConfig(modality="m", orientation="IL", unstated="trust", kinds=(), max_megapixels=1),
        radiographs,
    ),
    "series": (SeriesReaderConfig(modality="m", max_megavoxels=1), volumes),
    "slice": (SeriesReaderConfig(modality="m", dims=2, volume="middle", max_megavoxels=1), slices),
    "segmentation": (SegmentationReaderConfig(modality="m", overlap="later", max_megavoxels=1), segmentations),
}


@pytest.mark.parametrize("case", CASES)
def test_300_mutations(tmp_path, case):
    config, make = CASES[case]
    seeds, path, folder = make(tmp_path)
    num_read = attack(config.build(), seeds, path, 300, folder, mutations=MUTATIONS)
    assert 10 < num_read < 290


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES)
def test_mutated_files_are_read_or_refused(tmp_path, case):
    config, make = CASES[case]
    seeds, path, folder = make(tmp_path)
    assert attack(config.build(), seeds, path, NUM_MUTATIONS, folder, mutations=MUTATIONS) > 0.03 * NUM_MUTATIONS
