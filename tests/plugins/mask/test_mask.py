"""Files of labels: the phantom's numbers, other collections' numbers, and what is refused."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from core.api import Provenance, Sample, UserError
from core.io import AnyFormatReaderConfig, ImageReaderConfig, NiftiReaderConfig
from plugins.mask.modality import FINDINGS, ORGANS
from plugins.mask.reader import MaskReaderConfig
from plugins.phantom.anatomy.findings import FINDINGS as PHANTOM_FINDINGS
from plugins.phantom.imaging.masks import ORGANS as PHANTOM_ORGANS

PROVENANCE = Provenance(model="m", recipe="r", seed=0)
SCAN = AnyFormatReaderConfig(
    nifti=NiftiReaderConfig(modality="m", units="label", dims=2),
    image=ImageReaderConfig(modality="m", orientation="PL", units="label"),
)


def saved(path, data, kind=np.int16):
    nib.save(nib.Nifti1Image(np.asarray(data, kind)[..., None], np.diag([-1.0, -1.0, 5.0, 1.0])), path)
    return path


def test_the_labels_are_the_phantoms_in_its_order():
    assert ORGANS.parts("tiny").preprocess.labels == PHANTOM_ORGANS
    assert FINDINGS.parts("tiny").preprocess.labels == PHANTOM_FINDINGS


@pytest.mark.parametrize("modality", [ORGANS, FINDINGS], ids=lambda item: item.name)
@pytest.mark.parametrize("preset", ["tiny", "tiny3d", "small", "paper"])
def test_every_part_has_a_channel_per_label(modality, preset):
    parts = modality.parts(preset)
    num = len(parts.preprocess.labels)
    segments = parts.exports["dicom"].segments
    assert tuple(segment.name for segment in segments) == parts.preprocess.labels
    assert parts.data.channels == parts.autoencoder.config.channels == parts.prompt.channels == num
    assert parts.data.value_range == (0, num)


def test_numbers_of_another_collection_become_labels(tmp_path):
    """BraTS: 1 necrosis, 2 oedema, 4 enhancing tumour."""
    path = saved(tmp_path / "a.nii.gz", [[0, 1, 2], [4, 4, 0]])
    result = MaskReaderConfig(scan=SCAN, values=(2, (1, 4))).build().read(path)
    assert result.data[0].tolist() == [[0, 2, 1], [2, 2, 0]]
    assert result.data.dtype == np.float32
    assert result.geometry.spacing_mm == (1, 1)


def test_a_picture_of_black_and_white(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 5:] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    result = MaskReaderConfig(scan=SCAN, values=(255,)).build().read(tmp_path / "a.png")
    assert np.array_equal(result.data[0], mask // 255)


@pytest.mark.parametrize(
    ("data", "kind", "values", "message"),
    [
        ([[0, 3], [1, 2]], np.int16, (1, 2), r"a\.nii\.gz: holds 3, and values names 1, 2; add it, or set others"),
        ([[0, 0.5], [1, 2]], np.float32, None, r"a\.nii\.gz: holds 0\.5, but labels are whole numbers"),
        ([[0, -1], [1, 2]], np.int16, None, r"a\.nii\.gz: holds -1, but labels are whole numbers"),
    ],
)
def test_a_number_that_is_no_label_gives_a_single_line(tmp_path, data, kind, values, message):
    path = saved(tmp_path / "a.nii.gz", data, kind)
    with pytest.raises(UserError, match=message) as caught:
        MaskReaderConfig(scan=SCAN, values=values).build().read(path)
    assert "\n" not in str(caught.value)


def test_other_numbers_may_mean_nothing(tmp_path):
    path = saved(tmp_path / "a.nii.gz", [[0, 3], [1, 2]])
    reader = MaskReaderConfig(scan=SCAN, values=(2,), others="nothing").build()
    assert reader.read(path).data[0].tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("values", [(1, 1), (0, 1), ((1, 2), 2)])
def test_a_number_stands_for_a_single_label(values):
    with pytest.raises(ValidationError, match="different numbers"):
        MaskReaderConfig(scan=SCAN, values=values)


def test_a_written_map_keeps_its_labels_whatever_the_collection_calls_them(tmp_path):
    parts = ORGANS.parts("tiny")
    path = saved(tmp_path / "a.nii.gz", [[0, 10, 20], [20, 20, 0]])
    reader = parts.reader.model_copy(update={"values": (20, 10)}).build()
    sample = reader.read(path)
    parts.writer.build().write(sample, tmp_path / "b.nii.gz", PROVENANCE)
    again = reader.read(tmp_path / "b.nii.gz")
    assert np.array_equal(again.data, sample.data)
    assert nib.load(tmp_path / "b.nii.gz").get_data_dtype() == np.int16


def test_from_file_to_canonical_form_and_back(tmp_path):
    """A map of twice the canonical grid: every second label survives, and none is invented."""
    parts, rng = ORGANS.parts("tiny"), np.random.default_rng(0)
    path = saved(tmp_path / "a.nii.gz", np.kron(rng.integers(0, 12, (64, 64)), np.ones((2, 2))))
    sample = parts.reader.build().read(path)
    preprocess = parts.preprocess.build()
    result = preprocess.apply(sample)
    assert result.data.shape == (11, 64, 64)
    assert np.array_equal(preprocess.invert(result, sample.geometry).data, sample.data)


def test_the_export_is_a_segmentation_with_our_names(tmp_path):
    import pydicom

    parts = FINDINGS.parts("tiny")
    data = np.zeros((1, 64, 64), np.float32)
    data[0, 10:20, 5:9], data[0, 40:50, 30:40] = 5, 2
    sample = parts.preprocess.build().invert(
        parts.preprocess.build().apply(parts.reader.build().read(saved(tmp_path / "a.nii.gz", data[0])))
    )
    parts.exports["dicom"].build().write(sample, tmp_path / "a.dcm", PROVENANCE)
    result = pydicom.dcmread(tmp_path / "a.dcm")
    assert result.Modality == "SEG"
    named = {item.SegmentNumber: item.SegmentLabel for item in result.SegmentSequence}
    assert (named[2], named[5]) == ("pleural_effusion", "lung_lesion")
    frames = [
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in result.PerFrameFunctionalGroupsSequence
    ]
    for number, plane in zip(frames, result.pixel_array.reshape(-1, 64, 64), strict=True):
        assert np.array_equal(plane == 1, sample.data[0] == number)
    assert set(frames) == {2, 5}


def test_the_phantoms_masks_are_files_of_these_modalities(tmp_path):
    from plugins.phantom.datasets import PHANTOM

    PHANTOM.make(tmp_path, num=1, workers=1, progress=False)
    (record, *_) = PHANTOM.scan(tmp_path)
    for modality in (ORGANS, FINDINGS):
        (path,) = record.files[modality.name]
        parts = modality.parts("tiny")
        sample = parts.reader.build().read(path)
        assert path == record.masks[modality.name.removeprefix("mask_")]
        result = parts.preprocess.build().apply(sample)
        assert np.array_equal(parts.preprocess.build().invert(result, sample.geometry).data, sample.data)
    ct = nib.load(record.files["ct"][0])
    assert np.allclose(ct.affine, nib.load(record.files["mask_organs"][0]).affine)


def segmentation(folder, modality, preset):
    """An export of random labels, and the labels."""
    parts = modality.parts(preset)
    geometry, num = parts.data.default_geometry, len(parts.preprocess.labels)
    data = np.random.default_rng(0).integers(0, num + 1, (1, *geometry.shape)).astype(np.float32)
    sample = Sample(modality=modality.name, data=data, geometry=geometry)
    parts.exports["dicom"].build().write(sample, folder / "a.dcm", PROVENANCE)
    return folder / "a.dcm", sample


@pytest.mark.parametrize("modality", [ORGANS, FINDINGS], ids=lambda item: item.name)
@pytest.mark.parametrize("preset", ["tiny", "tiny3d"])
def test_an_export_is_read_back_whatever_the_collections_numbers_are(tmp_path, modality, preset):
    path, sample = segmentation(tmp_path, modality, preset)
    config = modality.parts(preset).reader
    for reader in (config, config.model_copy(update={"values": (7, 9)})):
        result = reader.build().read(path)
        assert np.array_equal(result.data, sample.data)
        assert result.geometry.affine == pytest.approx(sample.geometry.affine)


def test_another_makers_segment_is_known_by_its_code(tmp_path):
    """Their number 2 is a liver; their kidney is none of our organs."""
    import pydicom

    path, sample = segmentation(tmp_path, ORGANS, "tiny")
    dataset = pydicom.dcmread(path)
    dataset.remove_private_tags()
    first, second = (dataset.SegmentSequence[at].SegmentedPropertyTypeCodeSequence[0] for at in (0, 1))
    first.CodeValue, first.CodeMeaning = "64033007", "Kidney"
    second.CodeValue, second.CodeMeaning = "10200004", "Liver"
    dataset.save_as(path)
    config = ORGANS.parts("tiny").reader
    with pytest.raises(UserError, match=r"a\.dcm: segment 1 is body \(Kidney, 64033007 SCT\), which is none of"):
        config.build().read(path)
    scan = config.scan
    scan = scan.model_copy(update={"segmentation": scan.segmentation.model_copy(update={"others": "nothing"})})
    result = config.model_copy(update={"scan": scan}).build().read(path)
    assert np.array_equal(result.data[sample.data == 2], np.full((sample.data == 2).sum(), 8))
    assert not result.data[sample.data == 1].any()
