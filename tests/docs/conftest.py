"""Installs distributions into a folder, as a user's pip would, without touching the environment of the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def pip_install():
    """``pip_install(source, target)``: build and install one distribution without its dependencies."""

    def call(source, target):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        result = subprocess.run(
            [*command, "--target", str(target), str(source)], capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr
        return target

    return call


@pytest.fixture(scope="session")
def python():
    """``python(folder_on_the_path, *arguments, cwd=...)``"""

    def call(path, *arguments, cwd, timeout=280):
        environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
        )

    return call
