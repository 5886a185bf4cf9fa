"""Whose files are generated, and where they lie: real parts with random weights."""

from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import torch

from core.contract.discovery import discover
from core.generate.conditioning import given_grid
from core.generate.pipeline import decoded, restored
from core.io.geometry import centred
from core.types import Geometry, LatentSpec, Provenance

PROVENANCE = Provenance(model="m", recipe="r", seed=1, index=0)
DEFAULT = centred((64, 64), (6.25, 6.25), "PL")
PLACED = np.array([[0, -9.0, 0, 100], [-9.0, 0, 0, -200], [0, 0, 4.0, -690], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def bundle():
    modalities = discover().modalities

    def part(name, kind):
        torch.manual_seed(0)
        return modalities[name].parts("tiny").autoencoder.build().eval()

    return SimpleNamespace(
        run=SimpleNamespace(parts=lambda name: modalities[name].parts("tiny"), config=SimpleNamespace(preset="tiny")),
        part=part,
        latent_spec=lambda name: spec_of(part(name, "autoencoder").spec),
    )


def spec_of(spec):
    channels = spec.channels
    return LatentSpec(channels=channels, space=spec.space, scale=(1.0,) * channels, shift=(0.0,) * channels)


def generated(bundle, name, given=()):
    spec = bundle.latent_spec(name)
    latents = torch.randn(2, spec.channels, *spec.space, generator=torch.Generator().manual_seed(1))
    return restored(bundle, name, decoded(bundle, name, latents), given)


@pytest.mark.parametrize("name", ["text", "xray_frontal", "ct", "mri", "mask_organs"])
def test_what_is_decoded_says_whose_it_is(bundle, name):
    assert [sample.modality for sample in generated(bundle, name)] == [name, name]


def test_two_equal_maps_of_two_modalities_are_two_objects(bundle, tmp_path):
    seen = []
    for name in ("mask_organs", "mask_findings"):
        parts = bundle.run.parts(name)
        sample = generated(bundle, name)[0]
        nothing = type(sample)(**{**vars(sample), "data": np.zeros_like(sample.data)})
        parts.exports["dicom"].build().write(nothing, tmp_path / f"{name}.dcm", PROVENANCE)
        seen.append(pydicom.dcmread(tmp_path / f"{name}.dcm"))
    first, second = seen
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.StudyInstanceUID == second.StudyInstanceUID


def test_an_output_lies_where_the_given_slice_lies(bundle):
    given = Geometry(affine=PLACED, shape=(40, 48), source_header={"kvp": 120.0})
    frontal = centred((64, 64), (6.0, 6.0), "IL", projection=True)
    for name in ("mri", "mask_organs"):
        sample = generated(bundle, name, [None, frontal, given])[0]
        assert sample.data.shape == (1, 40, 48)
        assert np.allclose(sample.geometry.affine, PLACED)
        assert "kvp" not in sample.geometry.source_header
    for name in ("xray_frontal", "xray_lateral"):
        default = bundle.run.parts(name).data.default_geometry
        assert generated(bundle, name, [given])[0].geometry == default
    assert generated(bundle, "mri", [frontal])[0].geometry == bundle.run.parts("mri").data.default_geometry


def test_the_given_grid_is_turned_to_the_outputs_axes():
    """A NIfTI slice with axes (R, A): the same points in the order rows, columns."""
    affine = np.array([[2.0, 0, 0, -50], [0, 3.0, 0, -80], [0, 0, 5.0, 30], [0, 0, 0, 1]])
    found = given_grid(DEFAULT, [Geometry(affine=affine, shape=(10, 20))])
    assert (found.orientation, found.shape) == ("PL", (20, 10))
    assert np.allclose(found.affine @ [0, 0, 0, 1], affine @ [9, 19, 0, 1])
    assert np.allclose(found.affine @ [19, 9, 0, 1], affine @ [0, 0, 0, 1])


@pytest.mark.parametrize(
    "other",
    [
        None,
        centred((8, 8, 8), (1.0, 1.0, 1.0), "SPL"),
        centred((8, 8), (1.0, 1.0), "SP", projection=False),
        centred((8, 8), (1.0, 1.0), "PL", unplaced=True),
        centred((8, 8), (1.0, 1.0), "PL", projection=True),
    ],
)
def test_an_image_of_other_points_gives_no_grid(other):
    assert given_grid(DEFAULT, [other]) is None
    assert given_grid(other, [DEFAULT]) is None


def test_volumes_share_a_grid_and_the_first_given_image_counts():
    default = centred((8, 8, 8), (5.0, 5.0, 5.0), "SPL")
    first, second = centred((9, 8, 7), (4.0, 3.0, 2.0), "SPL"), centred((5, 5, 5), (1.0, 1.0, 1.0), "SPL")
    assert given_grid(default, [DEFAULT, first, second]) == first


@pytest.mark.parametrize("name", ["ct", "mri", "mask_organs"])
def test_dicom_has_the_given_position(bundle, tmp_path, name):
    given = Geometry(affine=PLACED, shape=(40, 48))
    parts = bundle.run.parts(name)
    parts.exports["dicom"].build().write(generated(bundle, name, [given])[0], tmp_path / f"{name}.dcm", PROVENANCE)
    found = parts.reader.build().read(tmp_path / f"{name}.dcm").geometry
    assert found.shape == given.shape
    assert np.allclose(found.affine, PLACED)
