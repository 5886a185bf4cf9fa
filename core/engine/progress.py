"""Progress of a running stage on standard error, and the log of a run: one JSON object per line, appended."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

_LINE_EVERY_S = 10.0


class Watcher(Protocol):
    """Called after every step."""

    def __call__(self, done: int, loss: float | None = None) -> None:
        """``done`` steps are complete, the last one with this loss, where there is one."""
        ...


@contextmanager
def progress(title: str, steps: int, *, silent: bool = False) -> Iterator[Watcher]:
    """Show a bar on a terminal, and elsewhere a line every ten seconds and at the end; nothing when ``silent``."""
    if silent:
        yield lambda done, loss=None: None
    elif sys.stderr.isatty():
        with _bar(title, steps) as watcher:
            yield watcher
    else:
        yield _Lines(title, steps)


def say(text: str, *, silent: bool = False) -> None:
    """Print one line on standard error."""
    if not silent:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class _Lines:
    """Progress as plain text, for logs and pipes."""

    def __init__(self, title: str, steps: int) -> None:
        self.title, self.steps, self.last = title, steps, time.monotonic()

    def __call__(self, done: int, loss: float | None = None) -> None:
        if done < self.steps and time.monotonic() - self.last < _LINE_EVERY_S:
            return
        self.last = time.monotonic()
        say(f"{self.title}  {done}/{self.steps}{_loss_text(loss)}")


@contextmanager
def _bar(title: str, steps: int) -> Iterator[Watcher]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=steps, loss="")
        yield lambda done, loss=None: shown.update(task, completed=done, loss=_loss_text(loss))


def _loss_text(loss: float | None) -> str:
    return "" if loss is None else f"  loss {loss:.4f}"


class RunLog:
    """Appends rows to ``metrics.jsonl``. Each row is flushed at once, so an interruption loses no written row.

    ``silent``: writes nothing (all processes but the first).
    """

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self.path, self.silent = path, silent
        if not silent:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **row: Any) -> None:
        """Append one row; a value that JSON cannot hold (NaN, infinity) is written as a string."""
        if self.silent:
            return
        safe = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(safe) + "\n")

    def size(self) -> int:
        """Flush the log to disk and return its size in bytes."""
        if self.silent or not self.path.exists():
            return 0
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def cut(self, size: int) -> None:
        """Drop rows written after the log had this size: those steps are repeated."""
        if not self.silent and self.path.exists() and self.path.stat().st_size > size:
            os.truncate(self.path, size)
