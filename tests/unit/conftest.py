"""A folder in which commands run as a user's do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def work_folder(tmp_path_factory):
    """A folder with a registry, which is the current one while the tests of a module run."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copy(ROOT / "registry.toml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder
