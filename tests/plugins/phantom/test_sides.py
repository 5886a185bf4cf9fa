"""Left stays left: in the body, the CT, the frontal view and the report."""

import numpy as np
import pytest

from plugins.phantom.report.reading import read_report


def halves(data):
    """Mean of the picture's left and right half: the patient's right and left."""
    middle = data.shape[-1] // 2
    return data[..., :middle].mean(), data[..., middle:].mean()


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_effusion_is_on_its_side_everywhere(study, finding, side):
    sick, well = study(3, finding("pleural_effusion", 0.75, side)), study(3)
    for modality, sign in (("ct", 1), ("xray_frontal", 1)):
        data = sick.samples[modality].data - (0 if modality == "ct" else well.samples[modality].data)
        if modality == "ct":
            mask = sick.masks["findings"].data
            affine = sick.samples[modality].geometry.affine
            _, rows, columns = np.nonzero(mask)
            x = affine[0, 0] * rows + affine[0, 1] * columns + affine[0, 3]
            assert len(x) > 20
            assert (x < 0).all() if side == "left" else (x > 0).all()  # RAS: the patient's left is negative
            assert data[0][mask[0] > 0].mean() > -30  # and there is fluid, not lung, in the CT itself
        else:
            patients_right, patients_left = halves(sign * data)
            assert (patients_left > patients_right + 0.03) == (side == "left")
            assert (patients_right > patients_left + 0.03) == (side == "right")
    assert read_report(sick.samples["text"].data)["pleural_effusion"].side == side


@pytest.mark.parametrize("side", ["left", "right"])
def test_other_sided_findings_lie_on_their_side(study, finding, side):
    for name in ("pneumothorax", "consolidation", "lung_lesion", "atelectasis"):
        body = study(4, finding(name, 0.9, side, "middle")).body
        for layer in body.layers:
            if layer.finding == name:
                x = body.grid.x[layer.box[0]]
                weight = (layer.fraction * np.sign(x)).sum() / layer.fraction.sum()
                assert weight < -0.9 if side == "left" else weight > 0.9, name


def test_the_heart_is_on_the_patients_left(study):
    healthy = study(3)
    hearts = [layer for layer in healthy.body.layers if layer.tissue == "myocardium"]
    x = [
        float((layer.fraction * healthy.body.grid.x[layer.box[0]]).sum() / layer.fraction.sum()) for layer in hearts[:1]
    ]
    assert x[0] < -10
    geometry = healthy.samples["xray_frontal"].geometry
    assert geometry.orientation == "IL"
    assert healthy.samples["xray_lateral"].geometry.orientation == "IP"
    assert healthy.samples["ct"].geometry.orientation == "PL"


def test_ct_and_mri_share_their_geometry(study):
    samples = study(3).samples
    assert all(samples[name].geometry == samples["ct"].geometry for name in ("mri_t1", "mri_t2", "mri_pd"))


def test_air_is_dark_in_radiographs(study):
    for name in ("xray_frontal", "xray_lateral"):
        data = study(3).samples[name].data[0]
        assert data.min() == 0
        assert data[-8:, 24:40].mean() > 0.6  # the abdomen
