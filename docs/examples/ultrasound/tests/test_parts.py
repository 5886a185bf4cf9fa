"""What the contract does not cover: our own augmenter and data set."""

import numpy as np
import pytest
import torch
from core.api import Sample, UserError

from medweave_ultrasound.augment import SpeckleViewsConfig
from medweave_ultrasound.datasets import scan

HEADER = "study_id,patient_id,modality,view,file,split,report,labels,orig_size\n"


def test_speckle_leaves_black_black():
    black = Sample(modality="ultrasound", data=np.full((1, 16, 16), -1, dtype=np.float32))
    plain = {"rotation_deg": 0, "scale": 0, "shift": 0, "gamma": 0, "blur": 0, "noise": 0}
    view = SpeckleViewsConfig(views=plain, speckle=0.5).build().view(black, torch.Generator().manual_seed(0))
    assert np.array_equal(view.data, black.data)


def test_scan_reads_rows(tmp_path):
    (tmp_path / "manifest.csv").write_text(HEADER + "b_1,,ultrasound,breast,images/b1.png,dev,,benign,8x8\n")
    (record,) = scan(tmp_path)
    assert record.patient == "b_1"
    assert record.files == {"ultrasound": (tmp_path / "images/b1.png",)}
    assert record.labels == {"benign": 1, "malignant": 0, "normal": 0}


@pytest.mark.parametrize(
    ("content", "message"),
    [("a,b\n1,2\n", "no column study_id"), (HEADER + "b_1,,u,b,f,dev,,bening,8x8\n", "line 2: label 'bening'")],
)
def test_scan_names_the_fault(tmp_path, content, message):
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        list(scan(tmp_path))


def test_scan_without_manifest(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.csv: no such file"):
        list(scan(tmp_path))
