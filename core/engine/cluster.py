"""Tasks on a Dask cluster: SLURM and others by dask-jobqueue, Kubernetes by dask-kubernetes, or started by hand.

An extra (``pip install medweave[cluster]``). Workers need the same packages, and reach the same files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from core.contract.build import install_command
from core.errors import UserError

_AHEAD = 3  # pending tasks per thread of the cluster
_SECONDS = 15  # to reach the scheduler


def in_order_on_cluster(do: Callable[[Any], Any], tasks: Iterable[Any], address: str) -> Iterator[Any]:
    """Yield ``do(task)`` of every task, in task order, computed by the workers of a Dask scheduler.

    Tasks of a worker that is lost are done again by others. Raises `UserError` where dask is not installed, where the
    scheduler cannot be reached, or where workers are lost again and again.
    """
    client = _connected(address)
    try:
        from distributed.scheduler import KilledWorker

        client.run(_single_thread)
        ahead = _AHEAD * max(1, sum(client.nthreads().values()))
        waiting: deque[Any] = deque()
        try:
            for task in tasks:
                waiting.append(client.submit(do, task, pure=False, retries=0))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except KilledWorker as error:
            raise UserError(
                f"--cluster {address}: workers were lost again and again, perhaps for lack of memory; finished results"
                " are preserved"
            ) from error
        finally:
            client.cancel(list(waiting))
    finally:
        client.close()


def _connected(address: str) -> Any:
    try:
        from distributed.client import Client
    except ImportError as error:
        raise UserError(
            f"--cluster {address}: needs the package 'distributed', which is not installed;"
            f" {install_command('medweave', 'distributed')}"
        ) from error
    try:
        client = Client(address, timeout=_SECONDS, set_as_default=False)
        client.wait_for_workers(1, timeout=_SECONDS)
        return client
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"--cluster {address}: no scheduler with a worker answers there; start them (dask scheduler, dask worker"
            f" {address}), or correct the address"
        ) from error


def _single_thread() -> None:
    import torch

    torch.set_num_threads(1)
