"""Readers of measurements on planted discs, and the agreement of two outputs of the same and of other bodies."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.evaluate.images.anatomy import anatomy_rows, correlation, measurement_names, r2, train_reader
from core.types import Record
from tests.unit.evaluate.fake_images import FakeTestSet, discs, spec

NUM, TRAINING = 60, 240
DRAWS = np.random.default_rng(0)


def test_r2_in_closed_form():
    truth = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, np.nan]])
    assert r2(truth, truth)[0] == 1.0
    assert r2(np.full((3, 2), 2.0), truth)[0] == 0.0
    assert r2(truth[::-1], truth)[0] == -3.0
    assert np.isnan(r2(truth, truth)[1])  # does not vary


def test_correlation_is_the_mean_over_measurements():
    first = DRAWS.normal(size=(50, 3))
    second = first + DRAWS.normal(size=(50, 3))
    expected = np.mean([np.corrcoef(first[:, column], second[:, column])[0, 1] for column in range(3)])
    assert correlation(first, second) == pytest.approx(expected)
    assert correlation(first, np.ones((50, 3))) == 0.0


def radii_of(num):
    return DRAWS.uniform(5, 14, num)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of a CT and an MRI of discs. One way shows the partner's body, another way another body each."""
    real, training, validation = radii_of(NUM), radii_of(TRAINING), radii_of(NUM)
    mri = {"inside": -0.4}
    generated = radii_of(NUM)
    test_set = FakeTestSet(
        {"ct": spec("HU", (-1000.0, 1000.0)), "mri": spec()},
        {"ct": discs(real), "mri": discs(real, **mri)},
        ways={
            "generated, no prompt": {"ct": discs(generated), "mri": discs(generated, **mri)},
            "generated, prompted": {"ct": discs(generated), "mri": discs(radii_of(NUM), **mri)},
        },
    )
    whole, held_out = studies_of(training), studies_of(validation)
    images = {id(whole): training, id(held_out): validation}
    test_data = test_set.data

    def data(name, indices, studies=None):
        if id(studies) not in images:
            return test_data(name, indices)
        return discs(images[id(studies)][list(indices)], **(mri if name == "mri" else {}))

    test_set.data = data
    test_set.studies = studies_of(real)
    test_set.compute = SimpleNamespace(is_main=True)
    test_set.run.config = SimpleNamespace(run=tmp_path_factory.mktemp("run"))
    known = {
        record.study: measured for studies in (whole, held_out, test_set.studies) for record, measured in studies.known
    }
    test_set.cohort = SimpleNamespace(
        whole=whole, held_out=held_out, measurements_of={"planted": lambda record: known[record.study]}
    )
    assert measurement_names(test_set) == ("noise", "radius")
    found = {row.what: row for row in anatomy_rows(test_set)}
    again = {row.what: row for row in anatomy_rows(test_set)}  # with the readers of the run folder
    assert {what: row.value for what, row in found.items()} == {what: row.value for what, row in again.items()}
    return found


def studies_of(radii):
    records = [
        Record(patient=f"{row} {radius}", study=f"{row} {radius}", dataset="planted")
        for row, radius in enumerate(radii)
    ]
    measured = [{"radius": float(radius), "noise": float(DRAWS.normal()), "constant": 1.0} for radius in radii]
    return SimpleNamespace(
        records=records,
        indices_with=lambda *names: list(range(len(radii))),
        known=list(zip(records, measured, strict=True)),
    )


def test_readers_read_what_images_show_and_nothing_else(rows):
    for name in ("ct", "mri"):
        row = rows[f"{name}: measurements read on real test images, mean R²"]
        assert row.value > 0.8
        assert row.reference.startswith("radius ")
        assert "noise" not in row.reference
        assert row.low <= row.value <= row.high


def test_the_same_body_agrees_and_another_does_not(rows):
    real = rows["ct and mri: shared anatomy, correlation, real"]
    assert real.value > 0.9
    assert real.reference.endswith("; radius")
    same = rows["ct and mri: shared anatomy, share of real, generated, no prompt"]
    other = rows["ct and mri: shared anatomy, share of real, generated, prompted"]
    assert same.value > 0.9
    assert abs(other.value) < 0.35
    assert other.low < 0 < other.high
    assert abs(float(same.reference.removeprefix("another patient "))) < 0.35
    assert same.key == "anatomy, one plane/generated, no prompt/ct+mri"


def test_unknown_measurements_do_not_disturb_a_reader():
    radii = radii_of(120)
    values = torch.from_numpy(np.stack([radii, radii], 1)).float()
    values[::2, 1] = torch.nan
    reader = train_reader(discs(radii), values, seed=0, epochs=12)
    with torch.no_grad():
        read = reader(discs(radii)).numpy()
    assert (r2(read, np.stack([radii, radii], 1)) > 0.5).all()
