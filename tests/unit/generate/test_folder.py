"""Run folders that are damaged, weights that do not fit, and the strip on a contact sheet."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.engine.networks import homes_of
from core.engine.weights import require_fit
from core.errors import UserError
from core.generate.sheet import contact_sheet, write_sheet
from core.types import Sample


@pytest.mark.parametrize(
    "progress", [{}, [], None, "stages", {"stages": []}, {"stages": {"a": {}}}, {"stages": {"a": 1}}]
)
def test_a_progress_of_another_shape_is_one_line(progress):
    with pytest.raises(UserError, match=r"run/progress\.json: is damaged"):
        homes_of(progress, Path("run"))


def test_of_many_weights_that_do_not_fit_a_few_are_named():
    found = {f"layer_{index:02d}": torch.zeros(1) for index in range(40)}
    with pytest.raises(UserError) as refusal:
        require_fit(found, {}, Path("w"))
    assert "layer_05 and 34 more" in str(refusal.value)
    assert "layer_06" not in str(refusal.value)


def test_the_sheet_of_synthetic_studies_says_so_in_the_picture(tmp_path):
    from PIL import Image

    sheet = contact_sheet([{"a": Sample(modality="a", data=np.zeros((1, 4, 4), np.float32))}], {"a": "A"})
    for synthetic in (True, False):
        write_sheet(sheet, tmp_path / f"{synthetic}.png", synthetic=synthetic)
    marked, plain = (np.asarray(Image.open(tmp_path / f"{synthetic}.png")) for synthetic in (True, False))
    strip = len(marked) - len(plain)
    assert strip > 0
    assert np.array_equal(marked[strip:], plain)
    assert marked[:strip].max() > 200  # white words
    assert (marked[:strip] == 0).mean() > 0.5  # on black
