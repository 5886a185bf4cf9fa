"""Run stages to their end: log, progress and checkpoints; `core.engine.checkpoint` resumes an interrupted stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from core.engine.checkpoint import Checkpoints, resume_stage, save_stage
from core.engine.distributed import Compute
from core.engine.loop import Stage, StepLoop
from core.engine.progress import RunLog, progress


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
        compute = self.compute
        if stage.divided or compute.count == 1 or compute.device.type != "cpu":
            return self._train(stage)
        totals = torch.zeros(stage.steps, dtype=torch.float64)
        with compute.main_alone():
            if compute.is_main:
                totals.copy_(torch.tensor(replace(self, compute=compute.solo())._train(stage)))
            compute.copy_from_main([totals, *_tensors_of(stage)])
        return totals.tolist()

    def _train(self, stage: Stage) -> list[float]:
        loop = StepLoop(stage, self.compute, self.seed)
        checkpoints = self._checkpoints(stage.title)
        resume_stage(loop, checkpoints, self.log, self.compute)
        with progress(stage.title, stage.steps, silent=not self.compute.is_main) as watch:
            while loop.step < stage.steps:
                loss = loop.advance()
                watch(loop.step, loss)
                last = loop.step == stage.steps
                if last or (loop.step - 1) % self.log_every == 0:
                    self._write(loop)
                if last or loop.step % self.save_every == 0:
                    save_stage(loop, checkpoints, self.log, self.compute)
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

    def _write(self, loop: StepLoop) -> None:
        if self.compute.is_main:
            self.log.write(
                phase=loop.stage.title, step=loop.step - 1, **{key: float(value) for key, value in loop.row.items()}
            )


def _tensors_of(stage: Stage) -> Iterator[Tensor]:
    """Yield every weight and buffer of a stage."""
    for module in stage.modules.values():
        yield from module.eval().state_dict().values()
