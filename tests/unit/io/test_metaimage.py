"""MetaImage: where a voxel lies, by hand and by ITK; what a header may not say."""

import random
import zlib

import numpy as np
import pytest

from core.errors import UserError
from core.io import AnyFormatReaderConfig, NiftiReaderConfig
from core.io.metaimage import MetaImageReader

SHAPE = (4, 3, 2)
VOXELS = np.arange(24, dtype="<i2").reshape(SHAPE, order="F") - 5
STORED = VOXELS.tobytes(order="F")
HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "10 20 30",
    "ElementSpacing": "0.5 0.6 2",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "scan.raw",
}


@pytest.fixture
def write(tmp_path):
    def written(voxels=STORED, name="scan.mhd", drop=(), **changed):
        fields = {key: value for key, value in {**HEADER, **changed}.items() if key not in drop}
        # ElementDataFile ends the header whatever else is said.
        fields["ElementDataFile"] = fields.pop("ElementDataFile")
        text = "".join(f"{key} = {value}\n" for key, value in fields.items())
        (tmp_path / name).write_text(text)
        if voxels is not None:
            (tmp_path / "scan.raw").write_bytes(voxels)
        return tmp_path / name

    return written


def reader(**options):
    return MetaImageReader(NiftiReaderConfig(modality="m", units="HU", **options))


def test_a_voxel_lies_where_the_header_says(write):
    """By hand: LPS position Offset + i·spacing along each row of the matrix; R and A are its negatives."""
    sample = reader().read(write(TransformMatrix="0 1 0 -1 0 0 0 0 1"))
    assert np.array_equal(sample.data[0], VOXELS)
    result = sample.geometry.affine @ [3, 2, 1, 1]
    # x axis runs along +P, y axis along -L: LPS (10 - 2·0.6, 20 + 3·0.5, 30 + 2)
    assert result[:3] == pytest.approx([-(10 - 1.2), -(20 + 1.5), 32], abs=1e-9)
    assert sample.geometry.spacing_mm == pytest.approx((0.5, 0.6, 2.0))
    assert (sample.modality, sample.meta["units"], sample.data.dtype) == ("m", "HU", np.float32)


def test_the_same_position_and_values_as_itk(write, tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    image = sitk.GetImageFromArray(VOXELS.transpose(2, 1, 0).copy())
    image.SetSpacing((0.5, 0.6, 2.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    image.SetDirection(turn.ravel().tolist())
    for name in ("plain.mhd", "local.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
    sitk.WriteImage(image, str(tmp_path / "packed.mhd"), useCompression=True)
    for name in ("plain.mhd", "local.mha", "packed.mhd"):
        sample = reader().read(tmp_path / name)
        assert np.array_equal(sample.data[0], VOXELS), name
        for index in ((0, 0, 0), (3, 2, 1), (1, 0, 1)):
            expected = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
            assert (sample.geometry.affine @ [*index, 1])[:3] == pytest.approx(expected, abs=1e-5), (name, index)


def test_compressed_voxels_in_another_byte_order_behind_a_header(write, tmp_path):
    big = VOXELS.astype(">f4")
    path = write(big.tobytes(order="F"), BinaryDataByteOrderMSB="True", ElementType="MET_FLOAT")
    assert np.array_equal(reader().read(path).data[0], VOXELS)
    path = write(zlib.compress(VOXELS.tobytes(order="F")), CompressedData="True")
    assert np.array_equal(reader().read(path).data[0], VOXELS)
    for size, before in (("7", b"ignored"), ("-1", b"whatever is there")):
        path = write(before + VOXELS.tobytes(order="F"), HeaderSize=size)
        assert np.array_equal(reader().read(path).data[0], VOXELS)


def test_gantry_tilt_stays_in_the_affine(write):
    """Rows of a sheared matrix are kept as they are."""
    affine = reader().read(write(TransformMatrix="1 0 0 0 1 0 0 0.2 1")).geometry.affine
    assert affine[:3, 2] == pytest.approx([0, -0.4, 2.0])


def test_without_a_matrix_the_orientation_must_be_configured(write):
    path = write(drop=("TransformMatrix", "Offset"))
    with pytest.raises(UserError, match=r"scan\.mhd: states no TransformMatrix.*orientation"):
        reader().read(path)
    assert reader(orientation="LPS").read(path).geometry.orientation == "LPS"


def test_scan_readers_read_it_and_give_the_middle_slice_for_planes(write):
    path = write()
    volume = AnyFormatReaderConfig(nifti=NiftiReaderConfig(modality="m", dims=3)).build()
    assert volume.read(path).data.shape == (1, *SHAPE)
    with pytest.raises(UserError, match="volume"):
        AnyFormatReaderConfig(nifti=NiftiReaderConfig(modality="m", dims=2)).build().read(path)
    plane = AnyFormatReaderConfig(nifti=NiftiReaderConfig(modality="m", dims=2, volume="middle")).build().read(path)
    assert np.array_equal(plane.data[0], VOXELS[:, :, 1])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"NDims": "2"}, "NDims is 2, this reader reads 3"),
        ({"ElementNumberOfChannels": "3"}, "ElementNumberOfChannels is 3"),
        ({"ElementToIntensityFunctionSlope": "2"}, "ElementToIntensityFunctionSlope is 2"),
        ({"ElementType": "MET_FOO"}, "holds 'MET_FOO', expected"),
        ({"BinaryData": "False"}, "expected binary"),
        ({"CompressedData": "maybe"}, "CompressedData is 'maybe', expected True or False"),
        ({"DimSize": "4 3"}, "DimSize is '4 3', expected 3 numbers"),
        ({"DimSize": "4 3 -2"}, "not above 0"),
        ({"DimSize": "4 3 nan"}, "expected 3 numbers"),
        ({"DimSize": "400000 300000 20000"}, "max_megavoxels"),
        ({"DimSize": "4 3 3"}, "holds 48 bytes of voxels, the header scan.mhd states 72"),
        ({"DimSize": "4 3 1"}, "holds more bytes of voxels"),
        ({"ElementSpacing": "0 0.6 2"}, "not above 0"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
        ({"TransformMatrix": "1 0 0"}, "TransformMatrix is '1 0 0', expected 9 numbers"),
        ({"HeaderSize": "-7"}, "HeaderSize is '-7'"),
        ({"ElementDataFile": "LIST"}, "expected one file in the same folder"),
        ({"ElementDataFile": "slice%03d.raw 1 2 1"}, "expected one file in the same folder"),
        ({"ElementDataFile": "../secret.raw"}, "expected one file in the same folder"),
        ({"ElementDataFile": "/etc/hostname"}, "expected one file in the same folder"),
        ({"ElementDataFile": "gone.raw"}, "gone.raw, which is not in the same folder"),
        ({"CompressedData": "True"}, "cannot be read as MetaImage"),
    ],
)
def test_a_wrong_header_gives_a_single_line(write, changed, expected):
    with pytest.raises(UserError) as refused:
        reader().read(write(**changed))
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "scan" in str(refused.value)


def test_a_short_bomb_is_not_unpacked(write):
    """A header that says 24 voxels gets no more than that, whatever the compressed bytes hold."""
    path = write(zlib.compress(bytes(50_000_000)), CompressedData="True")
    with pytest.raises(UserError, match="bytes of voxels"):
        reader().read(path)


def test_nan_is_refused_or_replaced(write):
    voxels = VOXELS.astype("<f4")
    voxels[1, 1, 1] = np.nan
    path = write(voxels.tobytes(order="F"), ElementType="MET_FLOAT")
    with pytest.raises(UserError, match="1 values are NaN"):
        reader().read(path)
    assert reader(nan_value=-1000.0).read(path).data[0, 1, 1, 1] == -1000


def test_mutated_files_give_a_sample_or_a_single_line(write, tmp_path):
    source, draw = write(), random.Random(7)
    whole = source.read_bytes()
    num_read, refusals = 0, []
    for number in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path = tmp_path / f"mutant{number % 3}.mhd"
        path.write_bytes(bytes(content[: draw.choice([len(content), draw.randrange(len(content))])]))
        try:
            assert np.isfinite(reader().read(path).data).all()
            num_read += 1
        except UserError as error:
            refusals.append(str(error))
    assert num_read > 5
    assert len(refusals) > 5
    assert not [refusal for refusal in refusals if "\n" in refusal or "mutant" not in refusal]
