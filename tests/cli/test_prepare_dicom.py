"""``core.prepare NAME --dicom N``: full studies, by one command that may be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core import prepare
from core.contract.discovery import discover
from core.errors import UserError
from plugins.manifest.datasets import MANIFEST
from plugins.phantom.study import make_study

ROOT = Path(__file__).parents[2]


def command(root, num, *more):
    asked = ["phantom", "--root", str(root), "--dicom", str(num), "--seed", "2", "--workers", "1", "--quiet", *more]
    return [sys.executable, "-m", "core.prepare", *asked]


@pytest.mark.slow
def test_a_killed_command_resumes_and_its_studies_are_read(tmp_path):
    root, out = tmp_path / "phantom", tmp_path / "phantom.dicom"
    process = subprocess.Popen(command(root, 1), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("patients/.part-*/ct/0001.dcm")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name[:6] for path in (out / "patients").iterdir()] == [".part-"]
    done = subprocess.run(command(root, 1), cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"1 patients of 'phantom' are in {out} as DICOM studies"
    assert [path.name for path in (out / "patients").iterdir()] == ["0000"]
    assert not root.exists()
    (record,) = MANIFEST.scan(out)
    made, modalities = make_study(2, 0), discover().modalities
    level = made.parameters["slice"]["level"]
    for name, (path,) in record.files.items():
        parts = modalities[name].parts("tiny3d")
        sample = parts.reader.build().read(path)
        assert sample.meta["synthetic"] is True
        canonical = parts.preprocess.build().apply(sample)
        assert canonical.data.shape == (
            (parts.data.channels, *parts.data.space) if name != "text" else canonical.data.shape
        )
        if name.startswith(("ct", "mri")):
            expected = made.samples[name if name != "mri" else "mri_t2"]
            assert sample.data.shape == (1, 104, 64, 64)
            assert np.abs(sample.data[:, level] - expected.data).max() <= 0.5
            assert sample.geometry.spacing_mm == pytest.approx((4.0, 6.25, 6.25), abs=0.01)
            assert sample.geometry.orientation == "SPL"
    before = {path: path.stat().st_mtime_ns for path in (out / "patients").rglob("*")}
    prepare.main(command(root, 1)[3:])
    assert before == {path: path.stat().st_mtime_ns for path in (out / "patients").rglob("*")}


def test_a_dry_run_says_where_and_writes_nothing(tmp_path, capsys):
    prepare.main([*command(tmp_path / "phantom", 3)[3:], "--dry-run"])
    assert (
        f"would write 3 patients of 'phantom' as DICOM studies to {tmp_path / 'phantom.dicom'}"
        in capsys.readouterr().out
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["toy", "--dicom", "1"], "'toy' cannot be written as DICOM"),
        (["toy", "--dicom", "1", "--dry-run"], "'toy' cannot be written as DICOM"),
        (["phantom", "--dicom", "0"], "count"),
        (["phantom", "--dicom", "1", "--strict", "--audit-only"], "leave --audit-only, --strict out"),
    ],
)
def test_what_cannot_be_written_is_an_error_of_a_line(arguments, output):
    with pytest.raises(UserError, match=output) as caught:
        prepare.main(arguments)
    assert "\n" not in str(caught.value)
