"""Projections in DICOM: the order of transformations, which view, where left is."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.sequence import Sequence
from pydicom.sr._concepts_dict import concepts

from core.errors import MedWeaveWarning, UserError
from core.io import (
    AnyFormatReaderConfig,
    DicomRadiographWriterConfig,
    ImageReaderConfig,
    RadiographReaderConfig,
    centred,
)
from core.types import Sample
from tests.unit.io.dicom.dicom_files import cr, put, save

STORED = np.random.default_rng(0).integers(0, 4096, (6, 5), dtype=np.uint16)
TWELVE = {"BitsStored": 12, "HighBit": 11}


def reader(**options):
    return RadiographReaderConfig(**{"modality": "m", "orientation": "IL", "views": ("frontal",), **options}).build()


def read(tmp_path, stored=STORED, options=None, **tags):
    return reader(**(options or {})).read(save(cr(stored, **{**TWELVE, **tags}), tmp_path / "a.dcm"))


def code(value, scheme="SCT", meaning=""):
    item = put(Dataset(), CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning or "some view")
    return Sequence([item])


def table(entries, first, bits, little=True):
    item = put(Dataset(), LUTDescriptor=[len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries).astype("<u2").tobytes())
    return Sequence([item])


def test_share_of_the_bit_depth(tmp_path):
    found = read(tmp_path)
    assert np.allclose(found.data[0], STORED / 4095, atol=1e-7)
    assert found.data.dtype == np.float32
    assert found.geometry.source_header == {"projection": True, "bits": 12, "view": "PA", "spacing": "detector"}
    assert found.meta["spacing_known"] is True
    assert "SECRET" not in repr(found) + repr(dict(found.geometry.source_header))
    # A rescale moves the range with the values, so the share stays.
    scaled = read(tmp_path, RescaleSlope="0.684", RescaleIntercept="200")
    assert np.allclose(scaled.data[0], STORED / 4095, atol=1e-6)
    signed = read(tmp_path, stored=STORED.astype(np.int16) - 2048)
    assert np.allclose(signed.data[0], STORED / 4095, atol=1e-6)


@pytest.mark.parametrize("kind", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(2048, 4096), (1000.5, 300), (600, 1.0), (-50, 900)])
def test_windows_agree_with_pydicom(tmp_path, kind, centre, width):
    tags = {"WindowCenter": [7, centre], "WindowWidth": [9, width], "VOILUTFunction": kind}
    if (kind, width) == ("LINEAR", 1.0):
        tags.pop("VOILUTFunction")
    dataset = cr(STORED, **TWELVE, **tags, RescaleSlope=1, RescaleIntercept=0)
    with np.errstate(over="ignore"):
        expected = apply_windowing(STORED, dataset, index=1) / 4095
    found = read(tmp_path, options={"voi_index": 1}, **tags)
    assert np.allclose(found.data[0], expected, atol=1e-6)
    plain = read(tmp_path, options={"voi": "ignore"}, **tags)
    assert np.allclose(plain.data[0], STORED / 4095, atol=1e-7)


def test_polarity_comes_after_the_window(tmp_path):
    """Inverting before an off-centre window would give other numbers."""
    tags = {"WindowCenter": 1000, "WindowWidth": 500, "RescaleSlope": 2, "RescaleIntercept": -100}
    plain = read(tmp_path, **tags).data
    turned = read(tmp_path, PhotometricInterpretation="MONOCHROME1", **tags).data
    assert np.allclose(turned, 1 - plain, atol=1e-7)
    assert 0 < plain.mean() < 1
    values = STORED * 2.0 - 100
    by_hand = np.clip((values - 999.5) / 499 + 0.5, 0, 1)
    assert np.allclose(plain[0], by_hand, atol=1e-6)


def test_look_up_tables(tmp_path):
    modality = np.arange(1000)[::-1] * 4  # from 100 on, below 4096
    found = read(tmp_path, ModalityLUTSequence=table(modality, 100, 12))
    place = np.clip(STORED.astype(int) - 100, 0, 999)
    assert np.allclose(found.data[0], modality[place] / 4095, atol=1e-7)
    interest = np.sort(np.random.default_rng(1).integers(0, 1024, 4096))
    both = read(
        tmp_path,
        ModalityLUTSequence=table(modality, 100, 12),
        VOILUTSequence=table(interest, 0, 10),
        WindowCenter=3,
        WindowWidth=2,
    )
    assert np.allclose(both.data[0], interest[modality[place]] / 1023, atol=1e-7)
    short = table(interest, 0, 10)
    short[0].LUTDescriptor = [5000, 0, 10]
    with pytest.raises(UserError, match="a look-up table of 5000 entries of 10 bits has others"):
        read(tmp_path, VOILUTSequence=short)


def test_what_the_collimator_hides_is_black(tmp_path):
    stored = STORED.clip(10)
    stored[0] = 4095 + 0  # MONOCHROME1: the largest number is black
    stored[1:] = stored[1:].clip(10, 4000)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 500, "WindowWidth": 100}
    dataset = cr(stored, **TWELVE, **tags)
    dataset.add_new("PixelPaddingValue", "US", 4095)
    found = reader().read(save(dataset, tmp_path / "a.dcm")).data[0]
    assert (found[0] == 0).all()
    low = cr(np.where(stored == 4095, 0, stored), **TWELVE, **tags)
    low.add_new("PixelPaddingValue", "US", 0)
    assert np.array_equal(reader().read(save(low, tmp_path / "b.dcm")).data[0], found)


VIEWS = {
    "position": ({"ViewPosition": "AP"}, "AP"),
    "left": ({"ViewPosition": "LL"}, "LL"),
    "written out": ({"ViewPosition": "LATERAL"}, "lateral"),
    "code": ({"ViewPosition": None, "ViewCodeSequence": code("272479007")}, "PA"),
    "old code": ({"ViewPosition": "", "ViewCodeSequence": code("R-10206", "SRT")}, "AP"),
    "both": ({"ViewPosition": "LATERAL", "ViewCodeSequence": code("399173006")}, "LL"),
    "axes": ({"ViewPosition": None, "PatientOrientation": ["L", "F"]}, "frontal"),
    "side axes": ({"ViewPosition": None, "PatientOrientation": ["P", "FL"]}, "lateral"),
    "axes and view": ({"ViewPosition": "RL", "PatientOrientation": ["A", "F"]}, "RL"),
}


@pytest.mark.parametrize("case", VIEWS)
def test_views(tmp_path, case):
    tags, name = VIEWS[case]
    assert read(tmp_path, options={"views": ()}, **tags).geometry.source_header["view"] == name
    plane = "frontal" if name in ("AP", "PA", "frontal") else "lateral"
    for accepted in {(plane,), (name,)}:
        read(tmp_path, options={"views": accepted}, **tags)
    other = "lateral" if plane == "frontal" else "frontal"
    with pytest.raises(UserError, match=rf"a\.dcm: View\w+ says|a\.dcm: PatientOrientation says .* takes {other}"):
        read(tmp_path, options={"views": (other,)}, **tags)


def test_codes_are_those_of_the_standard():
    """pydicom carries CID 4010 of PS3.16."""
    from core.io.dicom.radiograph import _CODES

    meanings = {
        value: meaning
        for entries in concepts["SCT"].values()
        for value, (meaning, groups) in entries.items()
        if 4010 in groups
    }
    expected = {
        "PA": "postero-anterior",
        "AP": "antero-posterior",
        "LL": "left lateral",
        "RL": "right lateral",
        "frontal": "frontal",
        "lateral": "lateral",
    }
    assert {view: meanings[value] for value, view in _CODES.items()} == expected


WRONG = {
    "unstated": ({"ViewPosition": None}, "states no view .* and frontal is expected"),
    "lateral": ({"ViewPosition": "LL"}, "ViewPosition says LL, and m takes frontal"),
    "oblique": ({"ViewPosition": "RLO"}, "ViewPosition says RLO, and m takes frontal"),
    "contradiction": ({"ViewCodeSequence": code("399173006")}, "ViewPosition says PA, ViewCodeSequence says LL"),
    "two exact": ({"ViewCodeSequence": code("399348003")}, "ViewPosition says PA, ViewCodeSequence says AP"),
    "unknown code": ({"ViewCodeSequence": code("399236003", meaning="right oblique")}, "says right oblique"),
    "axes": ({"PatientOrientation": ["P", "F"]}, "ViewPosition says PA, PatientOrientation says lateral"),
    "axial": ({"PatientOrientation": ["L", "P"]}, "PatientOrientation says axes PL"),
    "one axis": ({"PatientOrientation": ["L", "R"]}, "PatientOrientation is .* expected two directions"),
    "quadruped": ({"PatientOrientation": ["LE", "CR"]}, "expected two directions"),
    "spacing": ({"ImagerPixelSpacing": [0, 0.2]}, "ImagerPixelSpacing is .* above 0 mm"),
    "oblong": ({"ImagerPixelSpacing": None, "PixelAspectRatio": [2, 1]}, "oblong pixels and states no spacing"),
    "breast": ({"Modality": "MG"}, "its Modality is MG, expected CR or DX"),
    "no modality": ({"Modality": None}, "its Modality is not stated"),
    "raw": ({"PresentationIntentType": "FOR PROCESSING"}, "is raw"),
    "name": ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation"),
    "width": ({"WindowCenter": 1, "WindowWidth": 0}, "a window LINEAR of width 0"),
    "function": ({"WindowCenter": 1, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "a window CUBIC"),
    "windows": ({"WindowCenter": [1, 2], "WindowWidth": 5}, "2 window centres and 1 widths"),
    "colour": ({"PhotometricInterpretation": "RGB"}, "holds RGB"),
    "bits": ({"HighBit": 15}, "HighBit is not BitsStored - 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused(tmp_path, case):
    tags, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, **tags)
    assert str(tmp_path / "a.dcm") in str(caught.value)


def test_what_may_be_allowed(tmp_path):
    assert read(tmp_path, options={"unstated": "trust"}, ViewPosition=None).geometry.orientation == "IL"
    assert read(tmp_path, options={"kinds": ("MG",)}, Modality="MG").data.shape == (1, 6, 5)
    assert read(tmp_path, options={"raw": True}, PresentationIntentType="FOR PROCESSING").data.shape == (1, 6, 5)
    assert read(tmp_path, options={"burned_in": True}, BurnedInAnnotation="YES").data.shape == (1, 6, 5)
    with pytest.raises(UserError, match=r"states 1 windows, voi_index is 3"):
        read(tmp_path, options={"voi_index": 3}, WindowCenter=5, WindowWidth=6)
    with pytest.raises(UserError, match="holds 2 frames"):
        read(tmp_path, stored=np.stack([STORED, STORED]))


@pytest.mark.parametrize(
    ("said", "meant"), [(["L", "F"], "IL"), (["R", "F"], "IR"), (["L", "H"], "SL"), (["F", "L"], "LI")]
)
def test_a_flipped_export_keeps_left_left(tmp_path, said, meant):
    """The preprocessor turns what the geometry says, so the same patient gives the same canonical image."""
    from plugins.xray.modality import FRONTAL

    upright = np.zeros((8, 8), np.uint16)
    upright[:3, 5:] = 4000  # superior, towards the patient's left as displayed
    stored = {"IL": upright, "IR": upright[:, ::-1], "SL": upright[::-1], "LI": upright.T}[meant]
    found = read(tmp_path, stored=np.ascontiguousarray(stored), PatientOrientation=said, ImagerPixelSpacing=[50, 50])
    assert found.geometry.orientation == meant
    parts = FRONTAL.parts("tiny")
    canonical = parts.preprocess.build().apply(found).data[0]
    rows, columns = np.indices(canonical.shape)
    weight = canonical - canonical.min()
    assert (weight * rows).sum() / weight.sum() < canonical.shape[0] / 2  # upper half
    assert (weight * columns).sum() / weight.sum() > canonical.shape[1] / 2  # the patient's left, right of the screen


def test_spacings(tmp_path):
    assert np.allclose(read(tmp_path).geometry.spacing_mm, (0.2, 0.3))
    both = read(tmp_path, PixelSpacing=[0.15, 0.25])
    assert np.allclose(both.geometry.spacing_mm, (0.15, 0.25))
    assert both.geometry.source_header["spacing"] == "calibrated"
    none = read(tmp_path, ImagerPixelSpacing=None)
    assert none.geometry.spacing_mm == (1, 1)
    assert none.meta["spacing_known"] is False
    assert "spacing" not in none.geometry.source_header


def test_a_contradiction_of_polarity_is_told(tmp_path):
    with pytest.warns(MedWeaveWarning, match=r"MONOCHROME2 and PresentationLUTShape INVERSE; MONOCHROME2 is used"):
        found = read(tmp_path, PresentationLUTShape="INVERSE")
    assert np.allclose(found.data[0], STORED / 4095, atol=1e-7)


def test_files_of_pydicom():
    """Real radiographs (MONOCHROME1, 12 bits); one contradicts itself, and that is said."""
    root = Path(get_testdata_file("DICOMDIR", download=False)).parent / "77654033"
    found = reader().read(root / "CR2" / "6247")
    assert found.geometry.source_header["view"] == "AP"
    assert found.geometry.orientation == "IL"
    with pytest.raises(UserError, match=r"6154: contradicts itself: ViewPosition says LL, PatientOrientation says fr"):
        reader().read(root / "CR1" / "6154")


def test_one_reader_for_pictures_and_dicom(tmp_path):
    from PIL import Image

    picture = ImageReaderConfig(modality="m", orientation="IL", value_range=(0, 1), projection=True)
    config = RadiographReaderConfig(modality="m", orientation="IL", views=("frontal",))
    both = AnyFormatReaderConfig(image=picture, radiograph=config).build()
    eight = (STORED // 16).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "a.png")
    save(cr(eight), tmp_path / "1.2.840.7")  # archives name files so
    assert np.array_equal(both.read(tmp_path / "a.png").data, both.read(tmp_path / "1.2.840.7").data)
    assert {".png", ".dcm"} <= set(both.suffixes)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match=r"a\.txt: this reader reads \.png.*\.dcm"):
        both.read(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"is a folder, expected a file"):
        both.read(tmp_path)
    with pytest.raises(ValueError, match="one of nifti, image, series, radiograph and segmentation"):
        AnyFormatReaderConfig()


@pytest.mark.parametrize("orientation", ["IL", "IR", "SL"])
def test_what_medweave_wrote_comes_back(tmp_path, provenance, orientation):
    place = centred((6, 5), (0.5, 0.25), orientation, projection=True)
    data = np.random.default_rng(0).random((1, 6, 5)).astype(np.float32)
    writer = DicomRadiographWriterConfig(view="PA").build()
    writer.write(Sample(modality="m", data=data, geometry=place), tmp_path / "a.dcm", provenance)
    found = reader().read(tmp_path / "a.dcm")
    assert np.abs(found.data - data).max() <= writer.tolerance + 1e-6
    assert np.array_equal(found.geometry.affine, place.affine)
    assert found.meta["synthetic"] is True
