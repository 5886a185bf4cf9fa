"""Runs commands as a user does: in a process of their own, from a folder that is not the checkout."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def run(tmp_path):
    """``run("core.train", "--flow", ...)`` or ``run(program, ...)`` from an empty folder."""

    def call(program, *arguments, cwd=None, env=None, timeout=240):
        command = [sys.executable, "-m", program] if program.startswith("core.") else [program]
        return subprocess.run(
            [*command, *arguments],
            cwd=cwd or tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return call


@pytest.fixture
def refused(run):
    """Runs a command that must fail with exit code 2 and one line; the line is returned."""

    def call(*command, **settings):
        result = run(*command, **settings)
        lines = result.stderr.strip().splitlines()
        assert result.returncode == 2, f"exit code {result.returncode}\n{result.stderr}"
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert result.stdout == ""
        return lines[0].removeprefix("error: ")

    return call
