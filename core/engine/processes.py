"""Several processes of one command on one CPU: this one and its companions divide every batch among them.

At small sizes a second thread mostly waits, while a second process computes half of each batch. This process has rank
0: it alone writes and prints. Its companions run the same command.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, get_args

from core.config.preset import Preset, TrainingName
from core.errors import UserError

_PARENT = "MEDWEAVE_PARENT"  # set in the environment of a companion
_LEAST_ROWS = 2  # of a batch in each process; fewer cost more than they save
_MOST = 8
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl, Linux
_SECONDS_TO_END = 10.0
_SECONDS_TO_FAIL = 2.0


def started_by_others() -> bool:
    """Return whether torchrun, or this module in another process, has started this process."""
    return "WORLD_SIZE" in os.environ


def num_processes(requested: int | None, training: Preset, device: str) -> int:
    """Return how many processes divide the work: those requested, or on the CPU one for each thread that torch may use.

    No more than give each at least two rows of the smallest batch, or of the part of it that is computed at a time.
    `UserError` for more than it has rows, or for several on another device, where torchrun starts them.
    """
    import torch

    phases = [training.of(name) for name in get_args(TrainingName)]
    smallest = min(phase.batch // phase.accumulate for phase in phases)  # the rows that go through a network at once
    if requested is None:
        return max(1, min(torch.get_num_threads(), smallest // _LEAST_ROWS, _MOST)) if device == "cpu" else 1
    if requested > 1 and device != "cpu":
        raise UserError(f"--processes {requested} divides the work of a CPU; on '{device}' start them with torchrun")
    if not 1 <= requested <= smallest:
        raise UserError(f"--processes {requested}: give 1 to {smallest}, the rows of the smallest batch")
    return requested


@contextmanager
def companions(number: int, module: str, arguments: Sequence[str]) -> Iterator[None]:
    """Run the block as rank 0 of ``number`` processes; the others run ``python -m module`` with these arguments.

    They end with this process, whatever ends it. Where one of them fails, `UserError` shows its last line.
    """
    if number < 2:
        yield
        return
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // number))
    group = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    group |= {"RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(number)}
    if "OMP_NUM_THREADS" not in os.environ:  # or accelerate sets a number of threads of its own, and warns
        group["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    os.environ |= group
    with tempfile.TemporaryFile("w+", errors="backslashreplace") as log:
        others = [_start(rank, module, arguments, log) for rank in range(1, number)]
        try:
            yield
            _wait(others, log)
        except Exception as error:
            _raise_first_failure(others, log, error)
            raise
        finally:
            for process in others:
                process.kill()
            for name in group:
                os.environ.pop(name, None)


def follow_parent() -> None:
    """Let a companion end with the process that started it, and leave interruptions to that one."""
    parent = os.environ.get(_PARENT)
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before this line
        sys.exit(1)


def _start(rank: int, module: str, arguments: Sequence[str], log: IO[str]) -> subprocess.Popen[str]:
    import torch

    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        _PARENT: str(os.getpid()),
    }
    # -P: modules are looked for where this process found them, and not in the current folder first.
    command = [sys.executable, "-P", "-m", module, *arguments]
    return subprocess.Popen(  # noqa: S603 - this program with the arguments of this process
        command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(others: Sequence[subprocess.Popen[str]], log: IO[str]) -> None:
    for process in others:
        try:
            code = process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            continue  # its work is done, only its end is slow
        if code:
            raise UserError(f"a process that shared the work has failed: {_last_line(log)}")


def _raise_first_failure(others: Sequence[subprocess.Popen[str]], log: IO[str], error: Exception) -> None:
    """Raise what a companion reported, where it failed before this process did."""
    if isinstance(error, UserError):
        return
    with suppress(subprocess.TimeoutExpired):  # the connection breaks a moment before the process is gone
        for process in others:
            process.wait(_SECONDS_TO_FAIL)
    if any(process.poll() for process in others):
        # Destroying the broken process group at the end of the interpreter may abort it.
        atexit.register(_leave, 2)
        raise UserError(f"a process that shared the work has failed: {_last_line(log)}") from error


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return lines[-1] if lines else "it ended without a message (out of memory?); give --processes 1"
