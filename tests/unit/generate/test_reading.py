"""A given file with several slices or series: which one is meant is said behind its path."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.contract.discovery import discover
from core.errors import UserError
from core.generate.inputs import read_input
from core.generate.reading import split_choice, with_choice
from core.io import NiftiReaderConfig, NiftiWriterConfig
from core.io.geometry import centred
from core.types import Provenance, Sample

MADE = Provenance(model="m", recipe="r", seed=0, index=0)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A CT volume of five slices 10 mm apart, from -20 to 20 mm, each of one value: 0, 100, ... HU."""
    folder = tmp_path_factory.mktemp("scan")
    data = np.broadcast_to((100.0 * np.arange(5, dtype=np.float32))[:, None, None], (5, 16, 16))[None].copy()
    geometry = centred((5, 16, 16), (10.0, 20.0, 20.0), "SPL")
    NiftiWriterConfig().build().write(Sample(modality="ct", data=data, geometry=geometry), folder / "ct.nii.gz", MADE)
    mask = np.zeros_like(data)
    mask[0, 3, 4:8] = 1
    NiftiWriterConfig().build().write(Sample(modality="m", data=mask, geometry=geometry), folder / "seg.nii.gz", MADE)
    return folder / "ct.nii.gz"


@pytest.fixture(scope="module")
def bundle():
    parts = {name: discover().modalities[name].parts("tiny") for name in ("ct", "text")}
    return SimpleNamespace(run=SimpleNamespace(parts=parts.__getitem__, config=SimpleNamespace(preset="tiny")))


def value_of(given):
    return float(given.batch.data.median()) * 1000  # the window of CT is -1000 to 1000 HU


@pytest.mark.parametrize(
    ("choice", "hu"),
    [
        ("::slice=0", 0), ("::slice=4", 400), ("::slice=middle", 200), ("::height=-11 mm", 100), ("::height=20mm", 400),
        ("::seg=seg.nii.gz", 300), (":: slice = 1", 100),
    ],
)  # fmt: skip
def test_the_slice_that_is_named_is_read(bundle, scan, choice, hu):
    given = read_input(bundle, "--condition", "ct", f"{scan}{choice}", keep=False)
    assert value_of(given) == pytest.approx(hu, abs=1)
    assert "::" in given.shown, "provenance says which one it was"
    assert "seg.nii.gz" not in given.shown, "a name may be that of a patient"
    assert given.shown.endswith(choice) == (not choice.startswith("::seg"))
    assert given.geometry.shape == (16, 16)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("", r"holds a volume .*; or, for --condition ct, add ::slice=NUMBER"),
        ("::slice=5", r"has slices 0 to 4, volume.index is 5"),
        ("::slice=-1", r"'slice=-1' is no choice"),
        ("::slice=half", r"'slice=half' is no choice"),
        ("::height=high", "is no choice"),
        ("::height=inf", "is no choice"),
        ("::height=900", r"its slices lie at -20 to 20 mm, volume.superior_mm is 900"),
        ("::seg=none.nii.gz", "none.nii.gz"),
    ],
)
def test_a_wrong_choice_is_one_line(bundle, scan, choice, message):
    with pytest.raises(UserError, match=message) as refusal:
        read_input(bundle, "--condition", "ct", f"{scan}{choice}", keep=False)
    assert "\n" not in str(refusal.value)


def test_a_text_with_colons_is_a_text(bundle):
    given = read_input(bundle, "--prompt", "text", "Findings::slice=3", keep=False)
    assert given.shown == "Findings::slice=3"


def test_what_is_no_choice_belongs_to_the_path():
    assert split_choice("a::b/ct.nii.gz") == ("a::b/ct.nii.gz", "")
    assert split_choice("a::b/ct.nii.gz::slice=3") == ("a::b/ct.nii.gz", "::slice=3")
    assert split_choice("series/::series=T1 *") == ("series/", "::series=T1 *")


def test_a_reader_without_the_setting_says_so():
    with pytest.raises(UserError, match=r"^x: files of this modality have no series to choose"):
        with_choice(NiftiReaderConfig(modality="ct"), "::series=3", "x")
