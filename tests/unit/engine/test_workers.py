"""Tasks in several processes: the order of results, lost processes, and what each of them did."""

import os
import signal
import time

import pytest

from core.engine.workers import Workers, in_order
from core.errors import UserError
from tests.dask_cluster import dask_cluster


def square(number):
    time.sleep(0.02 * (number % 3))
    return number**2


def die_once(task):
    """Square a number; the first process that meets the fatal one ends as if it had run out of memory."""
    number, folder = task
    mark = folder / "died"
    if number == 4 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{number}").touch()
    return number**2


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_tasks(workers):
    assert list(in_order(square, range(20), workers)) == [number**2 for number in range(20)]


def test_what_a_killed_process_did_is_done_again(tmp_path, capfd):
    results = list(Workers(2).in_order(die_once, [(number, tmp_path) for number in range(9)]))
    assert results == [number**2 for number in range(9)]
    assert len(list(tmp_path.iterdir())) == 10
    said = capfd.readouterr().err
    assert "a worker process was ended from outside; what it did is done again" in said
    assert sum(int(line.split(": ")[1].split()[0]) for line in said.splitlines() if "tasks in" in line) == 9


def test_processes_that_are_always_killed_are_an_error():
    with pytest.raises(UserError, match="again and again, perhaps for lack of memory; set fewer with --workers"):
        list(in_order(die, range(5), 2))


@pytest.fixture(scope="module")
def cluster():
    with dask_cluster() as started:
        yield started


def slow_square(number):
    time.sleep(0.3)
    return number**2


def test_a_cluster_gives_the_same_and_does_again_what_a_killed_worker_did(cluster):
    address, processes = cluster
    results = Workers(cluster=address).in_order(slow_square, list(range(30)))
    first = next(results)
    processes[2].kill()
    assert [first, *results] == [number**2 for number in range(30)]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "http://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_one_line(address, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("core.engine.cluster._SECONDS", 1)
    with pytest.raises(UserError, match="no scheduler with a worker answers there") as refusal:
        list(Workers(cluster=address).in_order(square, [1, 2]))
    assert "\n" not in str(refusal.value)
