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
