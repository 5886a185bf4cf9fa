"""Studies that the page asked for: made one after the other, each with the events that the page shows."""

from __future__ import annotations

import secrets
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.cli.text import as_single_line
from core.errors import MedWeaveWarning, UserError
from core.generate.inputs import InputValue
from core.model.model import Model, SamplingStep
from core.model.study import Study
from core.studio.pictures import picture_of, thumbnail, volume_of

_MOST_WAITING = 8
_MOST_VALUES = 1_000  # of a vector that is shown
_REMEMBERED = 16  # finished studies that can still be seen and downloaded

State = Literal["waiting", "running", "done", "failed", "cancelled"]
_ENDED: tuple[State, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one study is made from; ``uploads`` is the folder of the uploaded files, removed when they were used."""

    prompts: Mapping[str, InputValue] = field(default_factory=dict)
    negative: Mapping[str, InputValue] = field(default_factory=dict)
    conditions: Mapping[str, InputValue] = field(default_factory=dict)
    outputs: Sequence[str] | None = None
    seed: int = 0
    sampler: Mapping[str, Any] = field(default_factory=dict)
    uploads: Path | None = None


class Cancelled(Exception):
    """The page no longer wants the study."""


class Job:
    """One study: its events so far, and the study once it is ``done``.

    An event is a JSON object whose ``kind`` is warning, step, done, failed or cancelled. The last three are final.
    """

    def __init__(self, order: Order) -> None:
        self.name, self.order = secrets.token_urlsafe(12), order
        self.state: State = "waiting"
        self.events: list[dict[str, Any]] = []
        self.study: Study | None = None
        self.cancel = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether there will be no further event."""
        return self.state in _ENDED

    def add(self, kind: str, **values: Any) -> None:
        """Append an event."""
        self.events.append({"kind": kind, **values})

    def finished_study(self) -> Study:
        """Return the study; `UserError` where it is not, or no longer, to be had."""
        if self.study is None:
            raise UserError("this study is not finished, or no longer kept; generate it again")
        return self.study


class Jobs:
    """The queue of one model. One study is computed at a time: two would take turns on the same cores."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studies")

    def submit(self, order: Order) -> Job:
        """Queue a study; `UserError` where too many wait."""
        job = Job(order)
        with self._lock:
            if sum(not each.ended for each in self._jobs.values()) >= _MOST_WAITING:
                raise UserError(f"{_MOST_WAITING} studies are waiting already; try again when one is finished")
            self._jobs[job.name] = job
            ended = [name for name, each in self._jobs.items() if each.ended]
            for name in ended[: max(0, len(ended) - _REMEMBERED)]:
                del self._jobs[name]
        self._executor.submit(self._make, job)
        return job

    def find(self, name: str) -> Job:
        """Return a job by its name; `UserError` where there is none."""
        job = self._jobs.get(name)
        if job is None:
            raise UserError("no such study: the page was started again, or many others were made since")
        return job

    def close(self) -> None:
        """Stop the study that is being made, and make no other."""
        for job in list(self._jobs.values()):
            job.cancel.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        for job in self._jobs.values():
            _remove_uploads(job)

    def _make(self, job: Job) -> None:
        try:
            if job.cancel.is_set():
                raise Cancelled
            job.state = "running"
            with _warnings_as_events(job):
                (study,) = self._generate(job)
            job.study = study
            final = {"kind": "done", "outputs": [describe_output(study, name) for name in study]}
            state: State = "done"
        except Cancelled:
            final, state = {"kind": "cancelled"}, "cancelled"
        except Exception as error:
            final, state = {"kind": "failed", "error": _message(job, error)}, "failed"
        finally:
            _remove_uploads(job)
        job.events.append(final)
        job.state = state  # last: who sees the state finds the event

    def _generate(self, job: Job) -> list[Study]:
        order = job.order
        return self.model.generate(
            prompts=order.prompts,
            negative_prompts=order.negative,
            conditions=order.conditions,
            outputs=order.outputs,
            seed=order.seed,
            callback=lambda step: _show(job, step),
            **order.sampler,
        )


def describe_output(study: Study, name: str) -> dict[str, Any]:
    """Return what the page needs to show a finished output."""
    bundle, sample = study.resolved.bundle, study.shown[name]
    known: dict[str, Any] = {"modality": name, "title": bundle.run.modalities[name].title}
    if isinstance(sample.data, str):
        return {**known, "text": sample.data}
    spec = bundle.run.parts(name).data
    if spec.kind != "grid":
        return {**known, "values": [float(value) for value in np.ravel(study.samples[name].data)[:_MOST_VALUES]]}
    return {**known, "picture": picture_of(volume_of(sample.data, spec), spec).as_json()}


def _show(job: Job, step: SamplingStep) -> None:
    """Add the event of a step: the middle section of every image, and a text as soon as it is finished."""
    if job.cancel.is_set():
        raise Cancelled
    pictures, texts, bundle = {}, {}, step.bundle
    for name in step.outputs:
        spec = bundle.run.parts(name).data
        if spec.kind == "grid":
            pictures[name] = thumbnail(step.estimate(name)[0], spec)
        elif spec.kind == "tokens" and step.step == step.steps - 1:
            texts[name] = step.texts(name)[0]
    job.add("step", step=step.step + 1, steps=step.steps, pictures=pictures, texts=texts, outputs=list(step.outputs))


@contextmanager
def _warnings_as_events(job: Job) -> Iterator[None]:
    """Add every warning of a block to the events of a job."""

    def add(message: Warning | str, category: type[Warning], *where: object, **rest: object) -> None:
        if issubclass(category, MedWeaveWarning):
            job.add("warning", text=_without_paths(job, str(message)))

    with warnings.catch_warnings():
        warnings.showwarning = add
        yield


def _message(job: Job, error: Exception) -> str:
    """Return an error in one line, without any path of this machine."""
    if isinstance(error, UserError):
        return _without_paths(job, str(error))
    return f"the study could not be made ({type(error).__name__}); the console of the server says more"


def _without_paths(job: Job, message: str) -> str:
    uploads = job.order.uploads
    text = as_single_line(message)
    return text if uploads is None else text.replace(f"{uploads}/", "").replace(str(uploads), "the upload")


def _remove_uploads(job: Job) -> None:
    if job.order.uploads is not None:
        shutil.rmtree(job.order.uploads, ignore_errors=True)
