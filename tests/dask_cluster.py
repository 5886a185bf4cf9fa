"""A Dask scheduler and workers on this machine, as a user starts them by hand."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

_ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


@contextmanager
def dask_cluster(workers: int = 2):
    """Yield the address of a scheduler, and the processes: it, then its workers."""
    pytest.importorskip("distributed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": _ENV}
    processes = [subprocess.Popen(scheduler, **quiet)]
    processes += [subprocess.Popen([*worker, "--no-nanny"], **quiet) for _ in range(workers)]
    try:
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
