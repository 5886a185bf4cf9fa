"""The picture of a generation: colours as they are, and what made each row."""

from types import SimpleNamespace

import numpy as np
import pytest

from core.generate.output.contact_sheet import Column, columns_of, contact_sheet, with_warning
from core.generate.output.study_record import StudyRecord
from core.preprocess import WindowNormalizationConfig
from core.types import DataSpec, Sample


def grid(channels, value):
    data = np.full((channels, 8, 8), -1.0, np.float32)
    data[channels // 2] = value
    return Sample(modality="m", data=data)


def test_a_picture_in_colour_stays_in_colour():
    sheet = contact_sheet([{"photo": grid(3, 1.0), "ct": grid(1, 1.0)}], [Column("photo", "Photo"), Column("ct", "CT")])
    assert sheet.mode == "RGB"
    assert sheet.getpixel((100, 150)) == (0, 255, 0)
    assert sheet.getpixel((300, 150)) == (255, 255, 255)
    assert with_warning(sheet).mode == "RGB"
    assert contact_sheet([{"ct": grid(1, 1.0)}], [Column("ct", "CT")]).mode == "L", "no more bytes than it takes"


def test_two_channels_are_no_colour():
    assert contact_sheet([{"m": grid(2, 1.0)}], [Column("m", "M")]).mode == "L"


def test_a_row_says_what_made_it():
    record = StudyRecord(
        study_id="p1", patient_id="MW-1", files={}, seed=7, index=0, prompts={"text": "Small\n left  effusion."},
        conditions={"ct": "sha256:00::slice=3"}, negative_prompts={"text": "Edema."},
    )  # fmt: skip
    assert record.title() == "p1, seed 7  from text 'Small left effusion.'  not text 'Edema.'  given ct"


def test_a_long_title_ends_within_the_sheet():
    titles = ["x" * 40, "y" * 4000]
    sheets = [contact_sheet([{"ct": grid(1, 0.0)}], [Column("ct", "CT")], [title]) for title in titles]
    assert sheets[0].size == sheets[1].size
    assert np.asarray(sheets[1])[22:40, -4:].min() == 255, "nothing is cut by the edge"


def test_hounsfield_units_are_shown_in_two_windows():
    """Fat and muscle differ in the window of soft tissue, lung and air in that of the lung."""
    windows = {"soft_tissue": (40, 400), "lung": (-600, 1500), "bone": (400, 1800)}
    settings = {"space": (8, 8), "spacing_mm": (1, 1), "orientation": "PL", "units": "HU", "windows": windows}
    hounsfield = {
        "ct": WindowNormalizationConfig(low=-1000, high=1000, **settings),
        "brain": WindowNormalizationConfig(low=0, high=80, **settings),
    }
    specs = {name: (config.spec, config) for name, config in hounsfield.items()}
    specs["mri"] = (DataSpec(kind="grid", space=(8, 8)), None)
    run = SimpleNamespace(
        modalities={name: SimpleNamespace(title=name.upper()) for name in specs},
        parts=lambda name: SimpleNamespace(data=specs[name][0], preprocess=specs[name][1]),
    )
    columns = columns_of(run, ("ct", "mri", "brain"))
    assert [column.title for column in columns] == [
        "CT, soft tissue", "CT, lung", "MRI", "BRAIN, soft tissue",
    ]  # fmt: skip
    assert columns[0].window == pytest.approx((-0.16, 0.24))
    hu = grid(1, 0.04)  # 40 HU
    sheet = contact_sheet([{"ct": hu, "mri": hu}], columns[:3])
    assert sheet.getpixel((100, 150)) == pytest.approx(127.5, abs=1)
    assert sheet.getpixel((300, 150)) == pytest.approx(255 * 1390 / 1500, abs=1)
    assert sheet.getpixel((500, 150)) == pytest.approx(255 * 1.04 / 2, abs=1)
