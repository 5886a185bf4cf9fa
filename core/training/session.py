"""A training session: what all phases of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from core.config.preset import TrainingName
from core.config.registry import Registry
from core.contract.modality import DatasetAdapter
from core.data.cohort import gather_cohort
from core.engine.distributed import Compute
from core.engine.progress import RunLog
from core.engine.trainer import Trainer
from core.evaluate.table import MetricRow
from core.flow.run import Run
from core.generate.bundle import Bundle
from core.generate.networks import Networks
from core.training.reuse import Reuse
from core.training.run_folder import RunFolder, require_same_configuration


class TrainingSession:
    """Studies, networks, folder and trainer of a run, and the table so far."""

    def __init__(
        self,
        run: Run,
        registry: Registry,
        datasets: Mapping[str, DatasetAdapter],
        compute: Compute,
        reuse: Path | None = None,
    ) -> None:
        self.run, self.compute, config = run, compute, run.config
        require_same_configuration(config)  # before data are prepared for a run that cannot resume
        self.cohort = gather_cohort(run, registry, datasets, compute)
        with compute.main_first():
            self.folder = self._open_folder(reuse)
        self.networks = Networks(run.weight_sets, self.folder.homes(), config.run, config.seed, compute)
        self.bundle = Bundle(run, self.networks)
        self.trainer = Trainer(
            compute=compute,
            log=RunLog(config.run / "metrics.jsonl", silent=not compute.is_main),
            folder=config.run,
            seed=config.seed,
            log_every=config.training.log_every,
            save_every=config.training.save_every,
        )
        self.table: list[MetricRow] = []
        self.trained_any = False

    def _open_folder(self, reuse: Path | None) -> RunFolder:
        """Open the run folder; a new one begins with what is reused of an earlier run."""
        config, cohort = self.run.config, self.cohort
        owners = {key: weights.owners for key, weights in self.run.weight_sets.items()}
        earlier = None if reuse is None else Reuse(earlier=reuse, config=config, studies=cohort.identity, owners=owners)
        silent = not self.compute.is_main
        files = {name: cohort.whole.fingerprint(name, times=False) for name in self.run.flows.union.modalities}
        return RunFolder(config, cohort.fingerprint, cohort.identity, files, silent=silent, reuse=earlier)

    def stage(
        self,
        phase: TrainingName | Literal["measure"],
        name: str,
        weights: Sequence[str],
        train: Callable[[], Iterable[MetricRow]],
    ) -> None:
        """Run a stage, unless it is finished, and add its rows to the table.

        ``train`` trains, measures, and saves the named weight sets under the phase. Its `Stage` has the same phase
        and name.
        """
        title = f"{phase} {name}"
        rows = self.folder.rows(title)
        if rows is None:
            self.trained_any = True
            rows = list(train())
            self.compute.barrier()
            self.folder.finish(title, phase, weights, rows)
        self.trainer.forget(title)
        self.table += [replace(row, section=name) for row in rows] if phase == "measure" else rows
