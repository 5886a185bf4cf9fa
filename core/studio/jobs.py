"""Studies that the page asked for: made one after the other, each with the events that the page shows."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.errors import MedWeaveWarning, UserError
from core.generate.inputs import InputValue
from core.generate.output.writers import writers_of
from core.model.model import Model, SamplingStep
from core.model.study import Study
from core.preprocess.intensity import windows_of
from core.studio.messages import private_folders, public
from core.studio.pictures import picture_of, preview, volume_of

_MOST_WAITING = 8
_REMEMBERED = 16  # finished studies that can still be seen and downloaded
_MOST_VALUES = 1_000  # of a vector that is shown
_PREVIEW_SHARE = 0.25  # of the time of a study, at most, for pictures of unfinished steps
_UNHEARD_S = 120  # a study that no page follows for so long is stopped

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

    def remove_uploads(self) -> None:
        """Remove the uploaded files."""
        if self.uploads is not None:
            shutil.rmtree(self.uploads, ignore_errors=True)


class Cancelled(Exception):
    """The page no longer wants the study."""


class Job:
    """One study: its events so far, and the study once it is ``done``.

    An event is a JSON object whose ``kind`` is waiting, warning, step, done, failed or cancelled. The last three are
    final. Of past steps the pictures are dropped.
    """

    def __init__(self, order: Order) -> None:
        self.name, self.order = secrets.token_urlsafe(12), order
        self.state: State = "waiting"
        self.events: list[dict[str, Any]] = []
        self.study: Study | None = None
        self.cancel = threading.Event()
        self.followed = time.monotonic()  # when a page last asked for events
        self.begun = self.previewed_s = 0.0

    @property
    def ended(self) -> bool:
        """Whether there will be no further event."""
        return self.state in _ENDED

    def unheard(self) -> bool:
        """Whether no page has followed the study for long."""
        return time.monotonic() - self.followed > _UNHEARD_S

    def add(self, kind: str, **values: Any) -> None:
        """Append an event."""
        if values.get("pictures"):
            shown = next((n for n in reversed(range(len(self.events))) if self.events[n].get("pictures")), None)
            if shown is not None:
                self.events[shown] = {**self.events[shown], "pictures": {}}
        self.events.append({"kind": kind, **values})

    def end(self, state: State, **values: Any) -> None:
        """Append the final event; who sees the state finds the event."""
        self.order.remove_uploads()
        self.add(state, **values)
        self.state = state

    def finished_study(self) -> Study:
        """Return the study; `UserError` where it is not, or no longer, to be had."""
        if self.study is None:
            raise UserError("this study is not finished, or no longer kept; generate it again")
        return self.study


class Jobs:
    """The queue of one model. One study is computed at a time: two would take turns on the same cores.

    ``folder`` holds what is uploaded, and goes with `close`.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.stopping = model, threading.Event()
        self.folder = Path(tempfile.mkdtemp(prefix="medweave-studio-"))
        self._private = private_folders(self.folder, model.bundle.networks.folder, Path.cwd())
        self._jobs: dict[str, Job] = {}
        self._lock = threading.RLock()  # a signal handler may stop all in the middle of a call
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studies")
        self._current: Job | None = None
        self._worker = 0
        # One for the whole process: `warnings.catch_warnings` in two threads would undo each other.
        self._show_elsewhere = warnings.showwarning
        warnings.showwarning = self._show_warning
        warnings.simplefilter("always", MedWeaveWarning)

    def require_room(self) -> None:
        """Raise `UserError` where too many studies wait. Those that no page follows any more give up their place."""
        for job in list(self._jobs.values()):
            if job.state == "waiting" and job.unheard():
                self.cancel(job)
        if sum(not job.ended for job in self._jobs.values()) >= _MOST_WAITING:
            raise UserError(f"{_MOST_WAITING} studies are waiting already; try again when one is finished")

    def submit(self, order: Order) -> Job:
        """Queue a study; `UserError` where too many wait."""
        job = Job(order)
        with self._lock:
            self.require_room()
            before = sum(not each.ended for each in self._jobs.values())
            self._jobs[job.name] = job
            ended = [name for name, each in self._jobs.items() if each.ended]
            for name in ended[: max(0, len(ended) - _REMEMBERED)]:
                del self._jobs[name]
        if before:
            job.add("waiting", before=before)
        self._executor.submit(self._make, job)
        return job

    def find(self, name: str) -> Job:
        """Return a job by its name; `UserError` where there is none."""
        job = self._jobs.get(name)
        if job is None:
            raise UserError("no such study: the page was started again, or many others were made since")
        return job

    def cancel(self, job: Job) -> None:
        """Stop a study at its next step, or at once where it waits."""
        with self._lock:
            job.cancel.set()
            if job.state == "waiting":
                job.end("cancelled")

    def stop(self) -> None:
        """Stop all studies and the streams of their events."""
        self.stopping.set()
        for job in list(self._jobs.values()):
            if not job.ended:
                self.cancel(job)

    def close(self) -> None:
        """Stop all studies, wait for the one that is being made, and remove what was uploaded."""
        self.stop()
        self._executor.shutdown(wait=True, cancel_futures=True)
        warnings.showwarning = self._show_elsewhere
        shutil.rmtree(self.folder, ignore_errors=True)

    def public(self, message: object, order: Order | None = None) -> str:
        """Return a message in one line, without a path of this machine."""
        return public(message, [order.uploads, *self._private] if order and order.uploads else self._private)

    def _make(self, job: Job) -> None:
        with self._lock:
            if job.ended:
                return
            job.state = "running"
        self._current, self._worker = job, threading.get_ident()
        job.begun = time.monotonic()
        try:
            study = self._generate(job)
            job.study = study
            outputs = [describe_output(study, name) for name in study]
            job.end("done", outputs=outputs, formats=formats_of(study))
        except Cancelled:
            job.end("cancelled")
        except UserError as error:
            job.end("failed", error=self.public(error, job.order))
        except Exception as error:
            traceback.print_exception(error)
            what = f"the study could not be made ({type(error).__name__}); the console of the server says more"
            job.end("failed", error=what)
        finally:
            self._current = None

    def _generate(self, job: Job) -> Study:
        order = job.order
        (study,) = self.model.generate(
            prompts=order.prompts,
            negative_prompts=order.negative,
            conditions=order.conditions,
            outputs=order.outputs,
            seed=order.seed,
            callback=lambda step: show_step(job, step),
            **order.sampler,
        )
        return study

    def _show_warning(self, message: Warning | str, category: type[Warning], *where: Any, **rest: Any) -> None:
        """Add a warning of the study that is being made to its events; others are shown as before."""
        job = self._current
        if job is not None and threading.get_ident() == self._worker and issubclass(category, MedWeaveWarning):
            job.add("warning", message=self.public(message, job.order))
        else:
            self._show_elsewhere(message, category, *where, **rest)


def describe_output(study: Study, name: str) -> dict[str, Any]:
    """Return what the page needs to show a finished output."""
    bundle, sample = study.resolved.bundle, study.shown[name]
    known: dict[str, Any] = {"modality": name, "title": bundle.run.modalities[name].title}
    if isinstance(sample.data, str):
        return {**known, "written": sample.data}
    parts = bundle.run.parts(name)
    spec = parts.data
    if spec.kind != "grid":
        return {**known, "values": [float(value) for value in np.ravel(study.samples[name].data)[:_MOST_VALUES]]}
    return {**known, "picture": picture_of(volume_of(sample.data, spec), spec, windows_of(parts.preprocess)).as_json()}


def formats_of(study: Study) -> list[str]:
    """Return the formats, besides the default ones, in which all outputs of a study can be saved."""
    run, formats = study.resolved.bundle.run, []
    for format in sorted(set.intersection(*(set(run.parts(name).exports) for name in study))):
        try:
            writers_of(run, tuple(study), format)
        except UserError as error:  # a package that it needs is not installed
            sys.stderr.write(f"{format}: {error}\n")
        else:
            formats.append(format)
    return formats


def show_step(job: Job, step: SamplingStep) -> None:
    """Add the event of a step: a preview of every image where time allows, a text as soon as it is finished."""
    begun = time.monotonic()
    if job.cancel.is_set() or job.unheard():
        raise Cancelled
    last = step.step == step.steps - 1
    wanted = last or job.previewed_s <= _PREVIEW_SHARE * (begun - job.begun)
    pictures, texts = {}, {}
    for name in step.outputs if wanted else ():
        parts = step.bundle.run.parts(name)
        spec = parts.data
        if spec.kind == "grid":
            pictures[name] = preview(step.estimate(name)[0], spec, windows_of(parts.preprocess))
        elif spec.kind == "tokens" and last:
            texts[name] = step.texts(name)[0]
    job.previewed_s += time.monotonic() - begun
    job.add("step", step=step.step + 1, steps=step.steps, pictures=pictures, texts=texts, outputs=list(step.outputs))
