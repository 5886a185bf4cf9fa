"""Training runs as processes of their own that start at once: a server has torch and core loaded, and forks them."""

import multiprocessing
import os

import pytest

import core.cli.command
import core.train
from tests.resume.runs import FLOW, SHORT


@pytest.fixture(scope="session")
def start():
    """``start("--run", "a")`` starts ``python -m core.train`` for the toy flow and returns the process."""
    # torch's optimisers import torch._dynamo at their first step, which takes seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "accelerate", "core.train", "core.training"])

    def call(*arguments):
        process = context.Process(target=core.cli.command.run, args=(core.train.main, [*FLOW, *SHORT, *arguments]))
        process.start()
        return process

    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    """All runs of the session share one folder, so that the cohort is written once."""
    monkeypatch.chdir(folder)


@pytest.fixture(scope="session")
def whole(folder, start):
    """A run that nobody disturbed."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        process = start("--run", "whole")
        process.join(200)
    finally:
        os.chdir(before)
    assert process.exitcode == 0
    return folder / "whole"
