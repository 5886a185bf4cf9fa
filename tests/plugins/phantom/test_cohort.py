"""The cohort on disk: deterministic, resumable, read back by the other plugins."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from core.contract.discovery import discover
from core.errors import UserError
from plugins.phantom.cohort import make_cohort, missing_patients
from plugins.phantom.datasets import PHANTOM


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_records(cohort):
    records = [record for record in PHANTOM.scan(cohort) if record.files]
    assert Counter(record.split for record in records) == {"train": 9, "validation": 1, "test": 2}
    assert len({record.patient for record in records}) == 12
    for record in records:
        assert set(record.files) == set(PHANTOM.modalities)
        assert record.files["mri"] == record.files["mri_t2"]
        assert all(path.is_file() for paths in record.files.values() for path in paths)
        assert all(path.is_file() for path in record.masks.values())
        assert set(record.labels.values()) <= {0, 1}
        assert set(record.strata) == {"sex", "habitus"}


def test_every_modality_reads_and_preprocesses_its_file(cohort):
    modalities = discover().modalities
    record = next(iter(PHANTOM.scan(cohort)))
    for name, (path,) in record.files.items():
        parts = modalities[name].parts("tiny")
        sample = parts.reader.build().read(path)
        assert sample.meta["synthetic"] is True
        if name == "text":
            assert sample.data.strip()
            continue
        canonical = parts.preprocess.build().apply(sample)
        assert canonical.data.shape == (parts.data.channels, 64, 64)
        assert canonical.geometry.orientation == parts.preprocess.orientation
        # Most patients have few findings, some none.
        assert canonical.data.std() > (0.1 if name != "mask_findings" else -1)


def test_files_say_they_are_synthetic_and_masks_fit_the_ct(cohort):
    import nibabel

    folder = cohort / "patients" / "0001"
    ct, organs = (nibabel.load(folder / name) for name in ("ct.nii.gz", "organs.nii.gz"))
    assert b"SYNTHETIC" in bytes(ct.header["descrip"])
    assert np.array_equal(ct.affine, organs.affine)
    parameters = json.loads((folder / "patient.json").read_text())
    assert ct.affine[2, 3] == pytest.approx(parameters["slice"]["z_mm"])


def test_workers_do_not_change_a_byte(cohort, tmp_path):
    make_cohort(tmp_path / "again", num=12, seed=3, workers=2, progress=False)
    assert digest(tmp_path / "again") == digest(cohort)


def test_an_interrupted_run_resumes_and_ends_with_the_same_bytes(cohort, tmp_path):
    root = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "core.prepare",
        "phantom",
        "--root",
        root,
        "--num",
        "12",
        "--seed",
        "3",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(root.glob("patients/0*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(UserError, match="make or finish the cohort"):
        list(PHANTOM.scan(root))
    num_missing, num = missing_patients(root)
    assert 0 < num_missing < num == 12
    (root / "patients" / ".part-abandoned").mkdir()
    make_cohort(root, workers=1, progress=False)  # takes number and seed from the folder
    assert digest(root) == digest(cohort)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_their_interrupted_process(tmp_path):
    """They would wait for tasks for ever."""
    command = [sys.executable, "-m", "core.prepare", "phantom", "--root", tmp_path / "a", "--num", "500"]
    process = subprocess.Popen(
        [*command, "--workers", "2"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(in_group(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(in_group(process.pid)) >= 3
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while in_group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not in_group(process.pid)


def in_group(group):
    """The living processes of a group."""
    living = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, number = path.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state != "Z":
                living.append(path)
    return living


def test_a_finished_cohort_is_left_alone(cohort):
    before = {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}
    make_cohort(cohort, progress=False)
    make_cohort(cohort, num=12, seed=3, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}


@pytest.mark.parametrize("requested", [{"num": 13}, {"seed": 4}])
def test_other_settings_are_refused(cohort, requested):
    with pytest.raises(UserError, match=r"holds a cohort with .* \(requested: "):
        make_cohort(cohort, **requested, progress=False)


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(UserError, match="in use for something else"):
        make_cohort(tmp_path, num=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_run_killed_before_its_settings_were_written_resumes(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "patients").mkdir()
    make_cohort(tmp_path, num=1, workers=1, progress=False)
    assert sum(bool(record.files) for record in PHANTOM.scan(tmp_path)) == 1


def test_two_processes_exclude_each_other(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "phantom").mkdir()
    from plugins.phantom.patients import cohort_lock

    with cohort_lock(tmp_path / "phantom"), pytest.raises(UserError, match="another process"):
        with cohort_lock(tmp_path / "phantom"):
            pass
    assert fcntl


def test_reports_for_the_tokenizer(cohort):
    corpus = (cohort / "reports.txt").read_text().splitlines()
    assert len(corpus) == 200
    without_patient = [record for record in PHANTOM.scan(cohort) if record.texts]
    assert [record.texts["text"] for record in without_patient] == corpus
    assert {record.split for record in without_patient} == {"train"}
    held_out = {
        path.read_text().split("\n", 1)[1].strip()
        for record in PHANTOM.scan(cohort)
        if record.split != "train"
        for path in record.files["text"]
    }
    assert held_out
    assert not held_out & set(corpus)
