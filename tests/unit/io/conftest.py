import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.types import Provenance


@pytest.fixture
def provenance():
    return Provenance(model="toy-1", recipe="medm2g", seed=7, prompts={"text": "sha256:ab"})


@pytest.fixture
def folder(tmp_path):
    """A folder and thereby paths with letters beyond ASCII and spaces."""
    path = tmp_path / "Prüfung 胸部 X"
    path.mkdir()
    return path


@pytest.fixture
def read_only():
    """``with read_only() as folder``: one that this process may not write into; the superuser is nobody meanwhile."""

    @contextmanager
    def made():
        folder, superuser = Path(tempfile.mkdtemp()), os.geteuid() == 0
        folder.chmod(0o555)
        if superuser:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if superuser:
                os.seteuid(0)
            folder.chmod(0o700)
            left = list(folder.iterdir())
            shutil.rmtree(folder)
        assert left == []

    return made
