"""Run many tasks in few processes: results in task order, few tasks pending, no process left behind."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from threading import Thread
from typing import Any, TypeVar

from core.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
_AHEAD = 3  # pending tasks per process: enough to keep it busy, few enough for memory


def in_order(do: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """Yield ``do(task)`` of every task, in task order. A single task or one worker starts no other process.

    Raises `UserError` where a process is ended from outside.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, 2))
    if workers == 1 or len(first) < 2:
        yield from map(do, chain(first, tasks))
        return
    from multiprocessing import get_context

    # Spawned, not forked: a fork inherits locks of threads that it does not have.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield from _collected(pool, do, chain(first, tasks), _AHEAD * workers)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was ended from outside, perhaps for lack of memory; set fewer with --workers:"
            " finished results are preserved"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _collected(pool: ProcessPoolExecutor, do: Callable[[Any], Any], tasks: Iterator[Any], ahead: int) -> Iterator[Any]:
    waiting = deque[Future[Any]]()
    for task in tasks:
        waiting.append(pool.submit(do, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _end_with_parent() -> None:
    """Exit when the parent ends: a worker would wait for tasks for ever. Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
