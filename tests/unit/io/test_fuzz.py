"""Mutated files of every format but DICOM images (`test_fuzz_dicom`): a finite sample or one line, soon, in no memory."""

import gzip
import io
import os
import zipfile

import nibabel
import numpy as np
import pytest
from PIL import Image

from core.io import (
    AnyFormatReaderConfig,
    DicomReportWriterConfig,
    ImageReaderConfig,
    NiftiReaderConfig,
    TextReaderConfig,
)
from core.types import Provenance, Sample
from tests.unit.io.attack import attack

DRAW = np.random.default_rng(0)
REPORT = "FINDINGS: Small left pleural effusion. The heart is normal.\nIMPRESSION: Effusion, 3 mm. Größe unverändert.\n"

NUM_MUTATIONS = int(os.environ.get("MEDWEAVE_FUZZ", "2500"))  # of each kind of file; make fuzz has 10,000


def nifti(folder):
    """Integers with a slope, floats, a plane, and with a qform alone."""
    seeds, affine = [], np.diag([-2.0, -2.0, 3.0, 1.0])
    for shape, kind in (((6, 5, 4), np.int16), ((6, 5, 4), np.float32), ((6, 5, 1), np.uint8)):
        image = nibabel.Nifti1Image(DRAW.integers(0, 200, shape).astype(kind), affine)
        image.header.set_slope_inter(0.5, -10.0)
        seeds.append(image.to_bytes())
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    config = NiftiReaderConfig(modality="m", dims=2, volume="middle", max_megavoxels=1)
    return config.build(), [*seeds, image.to_bytes()], folder / "a.nii", {}


def packed_nifti(folder):
    """What is mutated is packed: the header lies, the checksum is right."""
    reader, seeds, path, _ = nifti(folder)
    return reader, seeds, path.with_name("a.nii.gz"), {"wrap": lambda content: gzip.compress(content, 1)}


def torn_gzip(folder):
    """What is mutated is the packed file."""
    reader, seeds, path, _ = nifti(folder)
    return reader, [gzip.compress(seed) for seed in seeds], path.with_name("a.nii.gz"), {}


def pictures(folder):
    """PNG, TIFF and JPEG, grey and colour, 8 and 16 bits."""
    grey, colour = DRAW.integers(0, 256, (9, 13), np.uint8), DRAW.integers(0, 256, (9, 13, 3), np.uint8)
    deep = DRAW.integers(0, 65536, (9, 13), np.uint16)
    seeds = []
    for array in (grey, colour, deep):
        for kind in ("PNG", "TIFF", *(("JPEG",) if array.dtype == np.uint8 else ())):
            for packing in ({}, {"compression": "tiff_deflate"}) if kind == "TIFF" else ({},):
                file = io.BytesIO()
                Image.fromarray(array).save(file, kind, **packing)
                seeds.append(file.getvalue())
    config = ImageReaderConfig(modality="m", orientation="IL", channels=3, convert=True, max_megapixels=1)
    return config.build(), seeds, folder / "a.png", {}


def archives(folder):
    """One array of pictures; the archive's checksum is right, the array's header may lie."""
    seeds = []
    for array in (DRAW.integers(0, 256, (5, 6, 8, 3), np.uint8), DRAW.integers(0, 65536, (5, 6, 8), np.uint16)):
        file = io.BytesIO()
        np.save(file, array)
        seeds.append(file.getvalue())
    config = ImageReaderConfig(modality="m", orientation="IL", channels=3, convert=True, max_megapixels=1)
    return config.build(), seeds, folder / "a.npz", {"target": folder / "a.npz#1", "wrap": zipped}


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", content)
    return file.getvalue()


def torn_archives(folder):
    """What is mutated is the archive."""
    reader, seeds, path, settings = archives(folder)
    return reader, [zipped(seed) for seed in seeds], path, {"target": settings["target"]}


def metaimages(folder):
    """Header and voxels in one file, plain and packed."""
    import SimpleITK

    seeds = []
    for packed in (False, True):
        image = SimpleITK.GetImageFromArray(DRAW.integers(-50, 200, (4, 5, 6)).astype(np.int16))
        image.SetSpacing((2.0, 2.0, 3.0))
        SimpleITK.WriteImage(image, str(folder / "a.mha"), useCompression=packed)
        seeds.append((folder / "a.mha").read_bytes())
    nifti_settings = NiftiReaderConfig(modality="m", dims=2, volume="middle", max_megavoxels=1)
    return AnyFormatReaderConfig(nifti=nifti_settings).build(), seeds, folder / "a.mha", {}


def texts(folder):
    """With a byte order mark and without."""
    seeds = [REPORT.encode(), REPORT.encode("utf-8-sig")]
    return TextReaderConfig(modality="m").build(), seeds, folder / "a.txt", {}


def reports(folder):
    """Basic Text SR."""
    message = Provenance(model="m", recipe="r", seed=1)
    DicomReportWriterConfig().build().write(Sample(modality="m", data=REPORT), folder / "a.dcm", message)
    return TextReaderConfig(modality="m").build(), [(folder / "a.dcm").read_bytes()], folder / "a.dcm", {}


CASES = (nifti, packed_nifti, torn_gzip, pictures, archives, torn_archives, metaimages, texts, reports)


def num_read(case, folder, num):
    """How many of so many mutations were read; what a reader may not do fails in `attack`."""
    reader, seeds, path, settings = case(folder)
    return attack(reader, seeds, path, num, **settings)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_300_mutations(tmp_path, case):
    assert 0 < num_read(case, tmp_path, 300) < 300


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_mutated_files_are_read_or_refused(tmp_path, case):
    assert 0 < num_read(case, tmp_path, NUM_MUTATIONS) < NUM_MUTATIONS
