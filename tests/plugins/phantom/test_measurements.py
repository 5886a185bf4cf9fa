"""Measurements of a patient are the numbers that generated the body, and differ between patients."""

import json

from core.types import Record
from plugins.phantom.datasets import PHANTOM
from plugins.phantom.files import PARAMETERS


def test_measurements_are_those_of_the_parameter_file(cohort):
    records = [record for record in PHANTOM.scan(cohort) if record.files]
    measured = [PHANTOM.measurements_of(record) for record in records]
    assert len(measured) == 12
    for record, values in zip(records, measured, strict=True):
        parameters = json.loads(record.files["ct"][0].with_name(PARAMETERS).read_text())
        anatomy = parameters["anatomy"]
        assert values["cage_half_width"] == anatomy["cage_half_width"]
        assert [values["right_dome_z"], values["left_dome_z"]] == anatomy["dome_z"]
        assert values["heart_scale"] == parameters["heart_scale"]
        assert values["level_z"] == parameters["slice"]["z_mm"]
        assert values["female"] == (anatomy["sex"] == "female")
        assert all(isinstance(value, float) for value in values.values())
    assert len({values["fat"] for values in measured}) == 12


def test_a_report_without_images_has_none():
    assert PHANTOM.measurements_of(Record(patient="a", study="a", texts={"text": "No effusion."})) == {}
