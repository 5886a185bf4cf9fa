from copy import deepcopy

import numpy as np
import pytest
from pydantic import ValidationError

from core.errors import UserError
from core.io import centred
from core.preprocess import PercentileNormalizationConfig, WindowNormalizationConfig
from core.types import Geometry, Sample

SQUARE = WindowNormalizationConfig(
    space=(32, 32), spacing_mm=(2.0, 2.0), orientation="PL", low=-1000, high=1000, units="HU"
)
CUBE = WindowNormalizationConfig(space=(12, 16, 16), spacing_mm=(4.0, 3.0, 3.0), orientation="SPL", low=0, high=1)
# Odd, anisotropic, down to one pixel, larger and smaller than the grid, in other orders and directions.
PLANES = [((32, 32), "PL"), ((17, 45), "PL"), ((64, 31), "RA"), ((7, 5), "LP"), ((1, 9), "PL"), ((301, 20), "LA")]
VOLUMES = [((12, 16, 16), "SPL"), ((31, 17, 5), "RAS"), ((9, 40, 23), "LPS"), ((6, 6, 60), "AIR"), ((1, 8, 8), "SPL")]
CASES = [(SQUARE, *case) for case in PLANES] + [(CUBE, *case) for case in VOLUMES]


def smooth(shape, low, high):
    """A field that a coarse grid can hold."""
    axes = np.meshgrid(*(np.linspace(0, np.pi, size) for size in shape), indexing="ij")
    field = np.prod([np.sin(axis) for axis in axes], axis=0)
    return (low + (high - low) * field)[None].astype(np.float32)


def make(config, shape, orientation, data=None):
    spacing = (0.8, 1.3, 2.9)[: len(shape)]
    source = centred(shape, spacing, orientation, kernel="B30f")
    affine = source.affine.copy()
    affine[:3, 3] += [11.0, -7.0, 30.0]
    data = smooth(shape, *config.value_bounds) if data is None else data
    return Sample(
        modality="m",
        data=data,
        geometry=Geometry(affine=affine, shape=shape, source_header=source.source_header),
        meta={"path": "a.nii"},
    )


def pixels_across(sample, result):
    """How many canonical pixels the sample is wide along its narrowest axis."""
    count = len(sample.geometry.shape)
    size_mm = np.abs(sample.geometry.affine[:3, :count]) @ sample.geometry.shape
    pixel_mm = np.abs(result.geometry.affine[:3, :count]).sum(1)
    return (size_mm[pixel_mm > 0] / pixel_mm[pixel_mm > 0]).min()


@pytest.mark.parametrize(("config", "shape", "orientation"), CASES)
def test_canonical_form(config, shape, orientation):
    sample = make(config, shape, orientation)
    before = deepcopy(sample)
    part = config.build()
    result = part.apply(sample)
    assert result.data.shape == (1, *config.space)
    assert result.data.dtype == np.float32
    assert np.abs(result.data).max() <= 1
    assert result.geometry.shape == config.space
    assert result.geometry.orientation == config.orientation
    assert np.array_equal(result.data, part.apply(sample).data)
    assert part.apply(result) is result
    assert np.array_equal(sample.data, before.data)
    assert sample.geometry == before.geometry
    assert dict(sample.meta) == dict(before.meta)
    # The aspect ratio in mm is that of the canonical grid.
    ratio = np.array(result.geometry.spacing_mm) / np.array(config.spacing_mm)
    assert np.allclose(ratio, ratio[0])


@pytest.mark.parametrize(("config", "shape", "orientation"), CASES)
def test_landmarks_keep_their_world_position(config, shape, orientation):
    """The centre of mass of a blob is where it was, in mm, to a tenth of a pixel (a blob within a pixel: to half)."""
    low, high = config.value_bounds
    axes = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    centre = [0.6 * (size - 1) for size in shape]
    blob = np.exp(
        -sum(((axis - at) / max(1.5, size / 8)) ** 2 for axis, at, size in zip(axes, centre, shape, strict=True))
    )
    sample = make(config, shape, orientation, (low + (high - low) * blob)[None].astype(np.float32))
    result = config.build().apply(sample)

    def mass_mm(data, geometry):
        weight = data[0]
        grids = np.meshgrid(*(np.arange(size) for size in data.shape[1:]), indexing="ij")
        at = [float((grid * weight).sum() / weight.sum()) for grid in grids]
        return geometry.affine[:3, : len(at)] @ at + geometry.affine[:3, 3]

    gap = np.abs(mass_mm(sample.data - low, sample.geometry) - mass_mm(result.data + 1, result.geometry)).max()
    limit = 0.1 if pixels_across(sample, result) > 8 else 0.5
    assert gap < limit * max(result.geometry.spacing_mm)


@pytest.mark.parametrize(("config", "shape", "orientation"), CASES)
def test_invert_restores_units_and_geometry(config, shape, orientation):
    sample = make(config, shape, orientation)
    part = config.build()
    canonical = part.apply(sample)
    result = part.invert(canonical, like=sample.geometry)
    low, high = config.value_bounds
    assert result.geometry == sample.geometry
    assert result.data.shape == sample.data.shape
    assert dict(result.meta) == {"path": "a.nii", "units": config.units}
    if pixels_across(sample, canonical) > 8:
        error = np.abs(result.data - sample.data) / (high - low)
        assert error.mean() < 0.06


@pytest.mark.parametrize("config", [SQUARE, CUBE])
def test_on_the_grid_it_is_exact(config):
    data = np.random.default_rng(0).uniform(*config.value_bounds, (1, *config.space)).astype(np.float32)
    sample = Sample(modality="m", data=data, geometry=config.geometry)
    part = config.build()
    canonical = part.apply(sample)
    assert canonical.geometry == sample.geometry
    assert np.abs(part.invert(canonical, sample.geometry).data - data).max() <= part.tolerance
    assert np.abs(part.invert(canonical).data - data).max() <= part.tolerance


def test_padding_is_air_and_lies_outside():
    sample = make(SQUARE, (20, 40), "PL", np.full((1, 20, 40), 1000, np.float32))
    result = SQUARE.build().apply(sample).data[0]
    assert result[0, 0] == -1
    assert result[16, 16] == 1
    # 20 x 0.8 mm of 40 x 1.3 mm: 16 of 52 mm are filled.
    assert np.isclose((result > 0).mean(), 16 / 52, atol=0.04)


def test_squeezing_on_request():
    config = SQUARE.model_copy(update={"keep_aspect": False})
    sample = make(config, (20, 40), "PL", np.full((1, 20, 40), 1000, np.float32))
    result = config.build().apply(sample)
    assert (result.data == 1).all()
    corner = np.array([-0.5, -0.5, 0, 1])
    assert np.allclose(result.geometry.affine @ corner, sample.geometry.affine @ corner)


def test_generated_samples_get_the_default_geometry():
    generated = Sample(modality="m", data=np.linspace(-1.2, 1.2, 1024, dtype=np.float32).reshape(1, 32, 32))
    result = SQUARE.build().invert(generated)
    assert result.geometry == SQUARE.spec.default_geometry == centred((32, 32), (2.0, 2.0), "PL")
    assert (result.data.min(), result.data.max()) == (-1000, 1000)
    assert result.meta["units"] == "HU"


def test_a_generated_sample_lies_over_a_partner():
    partner = make(SQUARE, (20, 40), "RA")
    result = SQUARE.build().invert(Sample(modality="m", data=np.zeros((1, 32, 32), np.float32)), like=partner.geometry)
    assert result.geometry == partner.geometry
    assert np.allclose(result.data, 0, atol=1e-3)


def test_values_beyond_the_bounds_are_clipped():
    data = np.array([[-3000.0, -1000, 0, 1000, 5000]], np.float32)[None].repeat(5, 1)
    sample = Sample(modality="m", data=data, geometry=centred((5, 5), (1.0, 1.0), "PL"))
    config = SQUARE.model_copy(update={"space": (5, 5)})
    assert config.build().apply(sample).data[0, 0].tolist() == [-1, -1, 0, 1, 1]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (make(SQUARE, (8, 8), "AS"), r"a\.nii: its axes run AS, which is another plane"),
        (make(CUBE, (8, 8, 8), "SPL"), r"a\.nii: it has 3 axes \(8, 8, 8\), expected 2"),
        (make(SQUARE, (8, 8), "PL", np.zeros((3, 8, 8), np.float32)), "has 3 channels, expected 1"),
        (make(SQUARE, (8, 8), "PL", np.full((1, 8, 8), np.nan, np.float32)), "NaN"),
        (
            Sample(modality="m", data=np.zeros((1, 8, 8), np.float32)),
            "sample of 'm': expected an array with its geometry",
        ),
        (Sample(modality="m", data="text"), "expected an array"),
    ],
)
def test_bad_samples_are_named(sample, message):
    with pytest.raises(UserError, match=message):
        SQUARE.build().apply(sample)


def test_wrong_canonical_shape():
    with pytest.raises(ValueError, match=r"a canonical sample is \(1, 32, 32\), found \(1, 8, 8\)"):
        SQUARE.build().invert(Sample(modality="m", data=np.zeros((1, 8, 8), np.float32)))


@pytest.mark.parametrize(
    "wrong", [{"low": 5, "high": 5}, {"space": (32,)}, {"orientation": "RL"}, {"spacing_mm": (0, 1)}]
)
def test_wrong_configs(wrong):
    with pytest.raises(ValidationError):
        WindowNormalizationConfig(**{**SQUARE.model_dump(), **wrong})


WINDOWED = WindowNormalizationConfig(
    **{**SQUARE.model_dump(), "windows": {"lung": (-600.0, 1500.0), "wide": (100.0, 700.0)}, "window": "wide"}
)


def test_a_named_window_replaces_the_bounds():
    """Width 700 at level 100 (MediSyn) is -250 to 450; inside it values come back, beyond it they are clipped."""
    assert WINDOWED.value_bounds == WINDOWED.spec.value_range == (-250, 450)
    data = np.linspace(-1000, 1000, 32 * 32, dtype=np.float32).reshape(1, 32, 32)
    part = WINDOWED.build()
    result = part.apply(Sample(modality="m", data=data, geometry=SQUARE.geometry))
    assert np.allclose(result.data, np.clip((data - 100) / 350, -1, 1), atol=1e-6)
    restored = part.invert(result)
    assert np.allclose(restored.data, np.clip(data, -250, 450), atol=part.tolerance * 2)
    assert restored.meta["units"] == "HU"
    assert WINDOWED.model_copy(update={"window": None}).value_bounds == (-1000, 1000)
    assert WINDOWED.model_copy(update={"window": "lung"}).value_bounds == (-1350, 150)


@pytest.mark.parametrize("wrong", [{"window": "lnug"}, {"windows": {"lung": (0, 0)}, "window": None}])
def test_a_window_that_is_none_is_refused(wrong):
    with pytest.raises(ValidationError, match=r"'lnug' is not among lung, wide|greater than 0"):
        WindowNormalizationConfig(**{**WINDOWED.model_dump(), **wrong})


MRI = PercentileNormalizationConfig(space=(24, 24), spacing_mm=(1.0, 1.0), orientation="PL", value_range=(0, 1000))


def test_percentiles_are_stored_and_restored():
    data = np.random.default_rng(0).gamma(2, 300, (1, 24, 24)).astype(np.float32)
    sample = Sample(modality="m", data=data, geometry=MRI.geometry)
    part = MRI.build()
    result = part.apply(sample)
    low, high = result.meta["range"]
    assert (low, high) == pytest.approx(tuple(np.percentile(data, [0.5, 99.5])))
    restored = part.invert(result, sample.geometry).data
    inside = (data >= low) & (data <= high)
    assert np.allclose(restored[inside], data[inside], rtol=1e-4, atol=1e-2)
    assert np.allclose(restored, np.clip(data, low, high), rtol=1e-4, atol=1e-2)


def test_scale_and_offset_of_a_scanner_do_not_matter():
    data = np.random.default_rng(0).gamma(2, 300, (1, 24, 24)).astype(np.float32)
    first, second = (
        MRI.build().apply(Sample(modality="m", data=array, geometry=MRI.geometry)).data
        for array in (data, data * 7 + 90)
    )
    assert np.allclose(first, second, atol=1e-4)


def test_generated_mri_gets_declared_units_and_constants_do_not_divide_by_zero():
    part = MRI.build()
    assert part.invert(Sample(modality="m", data=np.ones((1, 24, 24), np.float32))).data.max() == 1000
    flat = Sample(modality="m", data=np.full((1, 24, 24), 42, np.float32), geometry=MRI.geometry)
    result = part.apply(flat)
    assert (result.data == -1).all()
    assert np.allclose(part.invert(result).data, 42)
