"""The page on Python runs as it stands, in a program of its own, as a user would paste it."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).parents[2] / "docs/how-to/use_in_python.md"


def test_the_page_runs_as_it_stands(tmp_path):
    code = PAGE.read_text(encoding="utf-8").partition("<!-- python -->\n```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr
    assert "xray_frontal" in result.stdout
    for study in ("0", "1"):
        assert (tmp_path / "studies" / study / "ct.nii.gz").is_file()
        assert Image.open(tmp_path / "studies" / f"{study}.png").width > 500


def test_the_import_is_light(tmp_path):
    """No torch, no pydantic: programs that only look for MedWeave do not wait for it."""
    code = "import sys, medweave; print(sorted({'torch', 'numpy', 'pydantic', 'monai', 'core'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() in ("[]", "['core']"), result.stdout
