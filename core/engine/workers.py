"""Run many tasks in few processes: results in task order, few tasks pending, no process left behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from threading import Thread
from typing import Any, TypeVar

from core.engine.progress import say
from core.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
_MOST_RESTARTS = 3
_AHEAD = 3  # pending tasks per process: enough to keep it busy, few enough for memory


def in_order(do: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """Yield ``do(task)`` of every task, in task order. A single task or one worker starts no other process.

    A task whose process is ended from outside is done again by another one, so that doing it twice must do no harm.
    Raises `UserError` where that happens too often.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, 2))
    if workers == 1 or len(first) < 2:
        yield from map(do, chain(first, tasks))
        return
    with _Pool(workers) as pool:
        yield from _collected(pool, do, chain(first, tasks), _AHEAD * workers)


@dataclass(frozen=True)
class Workers:
    """Who does tasks: this process, ``number`` processes of this machine, or the workers of a Dask ``cluster``.

    The results are the same, and in the same order. ``cluster``: the address of a scheduler, as ``tcp://host:8786``.
    ``silent``: how much each of them did is not said.
    """

    number: int = 1
    cluster: str = ""
    silent: bool = False

    def in_order(self, do: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield ``do(task)`` of every task, in task order; at the end a line for each worker says how much it did."""
        counts: dict[str, list[float]] = {}
        for result, worker, seconds in self._results(_Timed(do), tasks):
            counts.setdefault(worker, []).append(seconds)
            yield result
        if len(counts) > 1:
            for worker, spent in sorted(counts.items()):
                say(f"worker {worker}: {len(spent)} tasks in {sum(spent):.0f} s", silent=self.silent)

    def _results(self, do: Callable[[Task], Any], tasks: Iterable[Task]) -> Iterator[Any]:
        if not self.cluster:
            return in_order(do, tasks, self.number)
        from core.engine.cluster import in_order_on_cluster

        return in_order_on_cluster(do, tasks, self.cluster)


@dataclass(frozen=True)
class _Timed:
    """A function whose result comes with the name of the worker and the seconds that it took."""

    do: Callable[[Any], Any]

    def __call__(self, task: Any) -> tuple[Any, str, float]:
        begun = time.perf_counter()
        result = self.do(task)
        return result, f"{socket.gethostname()}/{os.getpid()}", time.perf_counter() - begun


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool:
    """Processes that do tasks, replaced by new ones where one is ended from outside."""

    def __init__(self, workers: int) -> None:
        self.workers, self.restarts = workers, 0
        self._pool = self._started()

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, do: Callable[[Any], Any], task: Any) -> Future[Any]:
        """Let a process do a task."""
        try:
            return self._pool.submit(do, task)
        except BrokenProcessPool as error:
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken

    def restart(self, error: BrokenProcessPool) -> None:
        """Replace the processes; `UserError` after several times."""
        self.restarts += 1
        if self.restarts > _MOST_RESTARTS:
            raise UserError(
                "a worker process was ended from outside again and again, perhaps for lack of memory; set fewer with"
                " --workers: finished results are preserved"
            ) from error
        say("a worker process was ended from outside; what it did is done again")
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._started()

    def _started(self) -> ProcessPoolExecutor:
        from multiprocessing import get_context

        # Spawned, not forked: a fork inherits locks of threads that it does not have.
        return ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _collected(pool: _Pool, do: Callable[[Any], Any], tasks: Iterator[Any], ahead: int) -> Iterator[Any]:
    waiting = deque[tuple[Any, Future[Any]]]()
    for task in tasks:
        waiting.append((task, pool.submit(do, task)))
        if len(waiting) >= ahead:
            yield _first_result(pool, do, waiting)
    while waiting:
        yield _first_result(pool, do, waiting)


def _first_result(pool: _Pool, do: Callable[[Any], Any], waiting: deque[tuple[Any, Future[Any]]]) -> Any:
    """Take the first of the pending tasks and return its result; where the processes broke, all are begun again."""
    while True:
        try:
            result = waiting[0][1].result()
        except BrokenProcessPool as error:
            pool.restart(error)
            unfinished = [(task, future if _is_done(future) else None) for task, future in waiting]
            waiting.clear()
            waiting.extend((task, future or pool.submit(do, task)) for task, future in unfinished)
            continue
        waiting.popleft()
        return result


def _is_done(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


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
