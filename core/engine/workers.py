"""Many tasks in few processes: results in the order of the tasks, few tasks in flight, nobody left behind."""

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
_AHEAD = 3  # tasks per process that wait or run: enough to keep it busy, few enough to be held


def in_order(do: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """``do`` of every task, in their order. A single task, and one worker, need no other process.

    `UserError` where a process is killed from outside.
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
            "a worker process was ended from outside, perhaps for want of memory; give fewer with --workers: what is"
            " finished is kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def num_cores() -> int:
    """Cores that this process may use."""
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
    """Leave with a parent that is killed: its workers would wait for tasks for ever. Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
