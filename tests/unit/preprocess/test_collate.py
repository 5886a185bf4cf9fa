import numpy as np
import pytest
import torch

from core.io import centred
from core.preprocess import ByteTokenizerConfig, WindowNormalizationConfig, collate, uncollate
from core.types import DataSpec, Sample

TEXT = ByteTokenizerConfig(length=12)
GRID = WindowNormalizationConfig(space=(4, 6), spacing_mm=(1.0, 1.0), orientation="PL", low=0, high=1)


def ids(*texts):
    return [TEXT.build().apply(Sample(modality="text", data=text)) for text in texts]


def grids(count=3):
    rng = np.random.default_rng(0)
    geometry = centred((4, 6), (1.0, 1.0), "PL")
    raw = [Sample(modality="m", data=rng.random((1, 4, 6), np.float32), geometry=geometry) for _ in range(count)]
    return [GRID.build().apply(sample) for sample in raw]


def test_tokens_are_padded_to_the_longest_and_masked():
    batch = collate(ids("ab", "", "abcdef"), TEXT.spec)
    assert batch.data.shape == (3, 8)
    assert batch.data.dtype == torch.int64
    assert batch.mask.sum(1).tolist() == [4, 2, 8]
    assert (batch.data[~batch.mask] == 0).all()
    rows = uncollate(batch)
    assert [TEXT.build().invert(row).data for row in rows] == ["ab", "", "abcdef"]


def test_grids_are_stacked_and_come_back_with_their_geometry():
    samples = grids()
    batch = collate(samples, GRID.spec)
    assert batch.data.shape == (3, 1, 4, 6)
    assert batch.data.dtype == torch.float32
    assert batch.mask is None
    rows = uncollate(batch, samples)
    for row, sample in zip(rows, samples, strict=True):
        assert np.array_equal(row.data, sample.data)
        assert row.geometry == sample.geometry
        assert GRID.build().apply(row) is row
    # The rows own their numbers.
    rows[0].data[:] = 9
    assert batch.data.max() <= 1


def test_rows_of_a_network_in_half_precision_with_gradient():
    batch = collate(grids(), GRID.spec)
    from dataclasses import replace

    half = replace(batch, data=batch.data.bfloat16().requires_grad_())
    assert uncollate(half)[0].data.dtype == np.float32


def test_vectors():
    spec = DataSpec(kind="vector", channels=5)
    batch = collate([Sample(modality="v", data=np.zeros(5, np.float32))] * 2, spec)
    assert batch.data.shape == (2, 5)


@pytest.mark.parametrize(
    ("samples", "spec", "message"),
    [
        ([], GRID.spec, "at least one sample"),
        (
            [*grids(1), Sample(modality="m", data=np.zeros((1, 4, 5), np.float32))],
            GRID.spec,
            r"sample 1 .*has shape \(1, 4, 5\), expected \(1, 4, 6\)",
        ),
        (
            [*grids(1), Sample(modality="n", data=np.zeros((1, 4, 6), np.float32))],
            GRID.spec,
            "sample 1 .*is 'n' in a batch of 'm'",
        ),
        (
            [Sample(modality="m", data=np.zeros((1, 4, 6)), meta={"path": "a.nii"})],
            GRID.spec,
            r"sample 0 .*\(a\.nii\): is float64",
        ),
        ([Sample(modality="text", data="raw")], TEXT.spec, "is text in original form; apply the preprocessor"),
        ([Sample(modality="text", data=np.arange(13))], TEXT.spec, r"has shape \(13,\), expected 1 to 12 ids"),
        ([Sample(modality="text", data=np.array([1, 259, 2]))], TEXT.spec, "has ids from 1 to 259, expected 0 to 258"),
    ],
)
def test_faults_name_the_sample(samples, spec, message):
    with pytest.raises(ValueError, match=message):
        collate(samples, spec)


def test_like_needs_a_sample_per_row():
    with pytest.raises(ValueError, match="3 rows, but 2 samples"):
        uncollate(collate(grids(), GRID.spec), grids(2))
