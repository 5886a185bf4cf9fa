"""A run on its way: what all phases share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from core.config.preset import Phase
from core.config.registry import Registry
from core.contract.modality import DatasetAdapter
from core.data.cohort import gather_cohort
from core.engine.distributed import Compute
from core.engine.progress import RunLog
from core.engine.trainer import Trainer
from core.evaluate.table import Line
from core.flow.rounds import weight_sets
from core.flow.run import Run
from core.generate.bundle import Bundle
from core.generate.networks import Networks
from core.training.run_folder import RunFolder, require_agreement


class Course:
    """Studies, networks, folder and trainer of a run, and the table so far."""

    def __init__(self, run: Run, registry: Registry, datasets: Mapping[str, DatasetAdapter], compute: Compute) -> None:
        self.run, self.compute, config = run, compute, run.config
        require_agreement(config)  # before data are made for a run that cannot go on
        self.cohort = gather_cohort(run, registry, datasets, compute)
        with compute.main_first():
            self.folder = RunFolder(config, self.cohort.fingerprint, silent=not compute.is_main)
        sets = weight_sets(run.flows.union.modalities, run.modalities, config.preset)
        self.networks = Networks(sets, self.folder.homes(), config.run, config.seed, compute)
        self.bundle = Bundle(run, self.networks)
        self.trainer = Trainer(
            compute=compute,
            log=RunLog(config.run / "metrics.jsonl", silent=not compute.is_main),
            folder=config.run,
            seed=config.seed,
            log_every=config.training.log_every,
            save_every=config.training.save_every,
        )
        self.table: list[Line] = []
        self.trained_any = False

    def stage(
        self, phase: Phase | Literal["measure"], name: str, weights: Sequence[str], train: Callable[[], Iterable[Line]]
    ) -> None:
        """Run a stage, unless it is finished; its lines join the table.

        ``train`` trains, measures, and saves the named weight sets under the phase. Its `Stage` has the same phase
        and name.
        """
        title = f"{phase} {name}"
        lines = self.folder.lines(title)
        if lines is None:
            self.trained_any = True
            lines = list(train())
            self.compute.barrier()
            self.folder.finish(title, phase, weights, lines)
        self.trainer.forget(title)
        self.table += lines
