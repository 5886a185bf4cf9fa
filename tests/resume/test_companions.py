"""``core.train --processes 2``: this process and a companion, which ends with it and whose failure is reported."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.engine.processes import companions, num_processes
from core.errors import UserError

SHORT = ["--flow", "toy_vector-toy_grid", "--data", "toy", "--set=training.measure.samples=8"]


def start(folder, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "core.train", *SHORT, *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
    )  # fmt: skip


def children_of(pid):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_and_only_the_first_prints(tmp_path):
    processes = {number: start(tmp_path, "--steps", "2", "--run", str(number), "--processes", str(number))
                 for number in (1, 2)}  # fmt: skip
    outputs = {number: process.communicate(timeout=240) for number, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0], outputs
    assert outputs[2][0].count("weights, log and configuration") == 1
    assert "unused parameters" not in outputs[2][1]
    for one, two in zip(rows(tmp_path / "1"), rows(tmp_path / "2"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)


def test_a_companion_ends_with_its_parent(tmp_path):
    parent = start(tmp_path, "--steps", "100000", "--run", "long", "--processes", "2")
    wait_for(lambda: (tmp_path / "long" / "metrics.jsonl").exists() and children_of(parent.pid))
    companion = children_of(parent.pid)[0]
    parent.kill()
    parent.wait()
    ended = time.monotonic() + 20
    while Path(f"/proc/{companion}").exists() and time.monotonic() < ended:
        time.sleep(0.1)
    assert not Path(f"/proc/{companion}").exists()


def test_a_failed_companion_ends_the_command_with_one_line(tmp_path):
    parent = start(tmp_path, "--steps", "100000", "--run", "long", "--processes", "2")
    wait_for(lambda: (tmp_path / "long" / "metrics.jsonl").exists() and children_of(parent.pid))
    os.kill(children_of(parent.pid)[0], signal.SIGKILL)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 2
    assert "a process that shared the work has failed" in errors.splitlines()[-1]


def test_a_companion_runs_the_package_of_its_parent(tmp_path):
    """The current folder has a package of the same name, which the parent did not import."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core/__init__.py").write_text("raise SystemExit('another core')")
    arguments = [*SHORT, "--steps", "1", "--run", "run", "--processes", "2"]
    script = f"import sys, core.train, core.cli.command as c; c.run(core.train.main, {arguments!r})"
    result = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_numbers_of_processes_that_make_no_sense_are_refused():
    from core.config.registry import load_registry

    tiny = load_registry().preset("tiny")
    assert num_processes(2, tiny, "cpu") == 2
    with pytest.raises(UserError, match="the rows of the smallest batch"):
        num_processes(99, tiny, "cpu")
    with pytest.raises(UserError, match="start them with torchrun"):
        num_processes(2, tiny, "cuda")
    assert num_processes(None, tiny, "cuda") == 1
    in_parts = tiny.model_copy(update={"autoencoder": tiny.autoencoder.model_copy(update={"accumulate": 4})})
    assert num_processes(None, in_parts, "cpu") == 1, "a batch of 4 in 4 parts leaves one row at a time"
    with companions(1, "core.train", []):
        assert "WORLD_SIZE" not in os.environ
