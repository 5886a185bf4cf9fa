"""What is read of prompts, and how provenance shows them: never a path."""

import hashlib
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from core.contract.discovery import discover
from core.errors import MedWeaveWarning, UserError
from core.generate.inputs import read_input
from core.io import NiftiWriterConfig, centred
from core.types import Provenance, Sample

TEXT = "Small left pleural effusion."


@pytest.fixture(scope="module")
def bundle():
    parts = discover().modalities["text"].parts("tiny")
    return SimpleNamespace(run=SimpleNamespace(parts=lambda name: parts, config=SimpleNamespace(preset="tiny")))


def read(bundle, value, keep=False):
    return read_input(bundle, "--prompt", "text", value, keep=keep)


@pytest.mark.parametrize("text", [TEXT, "Effusion", "No effusion and/or mass."])
def test_a_text_stands_for_itself(bundle, text):
    batch = read(bundle, text)
    assert batch.shown == text
    assert len(batch.batch) == 1


def test_what_is_cut_is_counted_and_not_named_as_read(bundle):
    """A finding behind the cut changes nothing, so that the files do not name it (a report cut without a word)."""
    with pytest.warns(MedWeaveWarning) as caught:
        batch = read(bundle, TEXT * 100 + " Large mass.")
    (line,) = [str(each.message) for each in caught]
    read_tokens, whole = map(int, re.match(r"--prompt text: (\d+) of (\d+) tokens are read", line).groups())
    assert read_tokens == int(batch.batch.mask.sum()) - 2
    assert whole > 3 * read_tokens
    assert "\n" not in line
    assert TEXT in batch.shown
    assert "mass" not in batch.shown
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(bundle, batch.shown).shown == batch.shown


def test_of_a_text_file_the_digest_or_the_text_is_shown(bundle, tmp_path):
    path = tmp_path / "report.txt"
    path.write_text(TEXT)
    assert read(bundle, str(path)).shown == f"sha256:{hashlib.sha256(TEXT.encode()).hexdigest()}"
    assert read(bundle, str(path), keep=True).shown.strip() == TEXT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("reports/patient_7", "no such file"),
        ("C:\\reports\\patient_7", "no such file"),
        ("report.txt", "no such file"),
        ("a report of mine.TXT", "no such file"),
        (".", "is a folder"),
    ],
)
def test_a_text_that_looks_like_a_missing_file_is_refused(bundle, value, expected):
    with pytest.raises(UserError, match=expected):
        read(bundle, value)


def test_a_volume_at_a_preset_of_slices_names_what_core_generate_takes(tmp_path):
    """A reader's own remedy is a setting, and this command has none for readers."""
    parts = discover().modalities["ct"].parts("tiny")
    bundle = SimpleNamespace(run=SimpleNamespace(parts=lambda name: parts, config=SimpleNamespace(preset="tiny")))
    geometry = centred((4, 5, 6), (1.0, 1.0, 1.0), "SPL")
    scan = Sample(modality="ct", data=np.zeros((1, 4, 5, 6), np.float32), geometry=geometry)
    NiftiWriterConfig().build().write(scan, tmp_path / "ct.nii.gz", Provenance(model="m", recipe="r", seed=0, index=0))
    with pytest.raises(UserError, match=r"or, for --condition ct, add ::slice=NUMBER"):
        read_input(bundle, "--condition", "ct", str(tmp_path / "ct.nii.gz"), keep=False)
    with pytest.raises(UserError, match="no such file; check the path") as refused:
        read_input(bundle, "--condition", "ct", str(tmp_path / "none.nii.gz"), keep=False)
    assert "settings of the run" not in str(refused.value)
