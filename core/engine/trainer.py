"""Run stages to their end: log, checkpoints, progress, and resuming after an interruption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.engine.checkpoint import Checkpoints
from core.engine.distributed import Compute
from core.engine.loop import Stage, StepLoop
from core.engine.progress import RunLog, progress, say


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Settings that all stages of a run share. ``folder`` is that of the run; the counts are optimiser steps."""

    compute: Compute
    log: RunLog
    folder: Path
    seed: int
    log_every: int
    save_every: int

    def run(self, stage: Stage) -> list[float]:
        """Train a stage from its newest checkpoint and return the loss of every step.

        An interrupted stage gives the same losses and weights as an uninterrupted one, bit for bit on the CPU. At the
        end its modules hold the moving average, and its last checkpoint stays until `forget`.
        """
        loop = StepLoop(stage, self.compute, self.seed)
        checkpoints = self._checkpoints(stage.title)
        self._restore(loop, checkpoints)
        with progress(stage.title, stage.steps, silent=not self.compute.is_main) as watch:
            while loop.step < stage.steps:
                loss = loop.advance()
                watch(loop.step, loss)
                last = loop.step == stage.steps
                if last or (loop.step - 1) % self.log_every == 0:
                    self._write(loop)
                if last or loop.step % self.save_every == 0:
                    self._save(loop, checkpoints)
        loop.finish()
        return loop.totals

    def forget(self, title: str) -> None:
        """Remove the checkpoints of a stage whose result is saved."""
        if self.compute.is_main:
            self._checkpoints(title).remove()

    def due(self, step: int) -> bool:
        """Return whether a step is logged, and may compute extra metrics."""
        return step % self.log_every == 0

    def _checkpoints(self, title: str) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints", title)

    def _restore(self, loop: StepLoop, checkpoints: Checkpoints) -> None:
        """Load the newest checkpoint; where there is none, save the start, so that the log has a size to be cut to."""
        newest = checkpoints.newest()
        if newest is not None:
            state, about = newest
            loop.restore(state, checkpoints.folder)
            self.log.cut(about["log_bytes"])
            if loop.step > 0:
                say(f"{loop.stage.title}: resumes at step {loop.step}", silent=not self.compute.is_main)
        self.compute.barrier()
        if self.compute.is_main:
            checkpoints.remove_partial_files()
            if newest is None:
                self._save(loop, checkpoints)

    def _save(self, loop: StepLoop, checkpoints: Checkpoints) -> None:
        if not self.compute.is_main:
            return
        stage, training = loop.stage, loop.stage.training
        about = {
            "phase": stage.phase,
            "stage": stage.title,
            "step": loop.step,
            "steps": stage.steps,
            "schedule": {"learning_rate": stage.learning_rate, "warmup": training.warmup},
            "seed": self.seed,
            "log_bytes": self.log.size(),
        }
        checkpoints.save(loop.step, loop.state(), about)

    def _write(self, loop: StepLoop) -> None:
        if self.compute.is_main:
            self.log.write(
                phase=loop.stage.title, step=loop.step - 1, **{key: float(value) for key, value in loop.row.items()}
            )
