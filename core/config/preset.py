"""Sizes of training: the typed tables ``[presets.NAME]`` of ``registry.toml``."""

from __future__ import annotations

from math import ceil
from typing import Literal, get_args

from pydantic import Field

from core.config.sampler import OtherSampling, Solver
from core.config.toml import Table

Phase = Literal["autoencoder", "align", "diffuse", "guide"]
Schedule = Literal["cosine", "constant"]
PHASES: tuple[Phase, ...] = get_args(Phase)
TrainingName = Literal["autoencoder", "align", "diffuse", "guide", "joint"]  # the joint round is the last of ``guide``


class Training(Table):
    """How one phase is trained. The ``_tokens`` values, where given, are those of modalities whose data are tokens.

    ``steps`` are those of a weight set, or of a round of alignment. In a round of guidance, where pairs take turns,
    they are those of each pair. ``epochs`` above 0 replaces both counts of steps. ``schedule``: after the warm-up the
    learning rate falls to 0 as a half cosine, or stays. ``weight_decay``, left out, is that of ``optimiser``: see
    `decay`. ``length_buckets``, of token autoencoders: of so many batches, drawn together and sorted by length, one is
    taken, which saves padding. ``accumulate``: parts in which a batch goes through the network. ``ema``: decay per
    step. ``clip``: largest gradient norm.
    """

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    epochs: int = Field(default=0, ge=0)
    steps_tokens: int | None = Field(default=None, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    learning_rate_tokens: float | None = Field(default=None, gt=0)
    length_buckets: int = Field(default=1, ge=1)
    optimiser: Literal["adam", "adamw"] = "adamw"
    weight_decay: float | None = Field(default=None, ge=0)
    schedule: Schedule = "cosine"
    warmup: int = Field(default=0, ge=0)
    accumulate: int = Field(default=1, ge=1)
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def decay(self) -> float:
        """Weight decay per step, in units of the learning rate: that given, or 0.01 for AdamW and none for Adam."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.01 if self.optimiser == "adamw" else 0.0

    def batch_of(self, kind: str) -> int:
        """Return the samples per step for a `DataSpec` kind."""
        return self.batch_tokens or self.batch if kind == "tokens" else self.batch

    def learning_rate_of(self, kind: str) -> float:
        """Return the learning rate for a `DataSpec` kind."""
        return self.learning_rate_tokens or self.learning_rate if kind == "tokens" else self.learning_rate

    def length_buckets_of(self, kind: str) -> int:
        """Return the batches that are sorted by length together, for a `DataSpec` kind; grids have one length."""
        return self.length_buckets if kind == "tokens" else 1

    def num_steps(self, num_samples: int, kind: str = "grid") -> int:
        """Return the optimiser steps of the phase: ``epochs`` over ``num_samples``, or ``steps`` of this kind."""
        if self.epochs:
            return self.epochs * ceil(num_samples / self.batch_of(kind))
        return (self.steps_tokens or self.steps) if kind == "tokens" else self.steps


class OtherTraining(Table):
    """Values that replace those of a preset: what a paper says, or an extended training."""

    steps: int | None = Field(default=None, ge=1)
    steps_tokens: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    learning_rate_tokens: float | None = Field(default=None, gt=0)
    length_buckets: int | None = Field(default=None, ge=1)
    optimiser: Literal["adam", "adamw"] | None = None
    weight_decay: float | None = Field(default=None, ge=0)
    warmup: int | None = Field(default=None, ge=0)
    clip: float | None = Field(default=None, gt=0)
    ema: float | None = Field(default=None, ge=0, lt=1)
    schedule: Schedule | None = None
    precision: Literal["fp32", "bf16"] | None = None


MeasureName = Literal[
    "shared space",
    "reconstruction",
    "agreement",
    "report findings",
    "report quality",
    "coupling",
    "outline",
    "anatomy",
    "fidelity",
    "intensity",
    "response",
    "coherence",
    "translation",
    "sample sheets",
]


class Measuring(Table):
    """How much is generated and measured for the final table.

    ``samples``: studies of the test split. ``steps`` and ``solver`` of sampling, the run's where left out.
    ``judge_epochs``: training of the finding classifiers that read generated images. ``only``: these measures, all
    where it is empty.
    """

    samples: int = Field(default=200, ge=8)
    steps: int = Field(default=0, ge=0)
    solver: Solver | None = None
    judge_epochs: int = Field(default=10, ge=1)
    only: tuple[MeasureName, ...] = ()


class OtherMeasuring(Table):
    """Values that replace those of a preset."""

    samples: int | None = Field(default=None, ge=8)
    steps: int | None = Field(default=None, ge=0)
    judge_epochs: int | None = Field(default=None, ge=1)


class Extended(Table):
    """What ``--extended`` changes: lengths of training and of measuring, never sizes of networks."""

    autoencoder: OtherTraining = OtherTraining()
    align: OtherTraining = OtherTraining()
    diffuse: OtherTraining = OtherTraining()
    guide: OtherTraining = OtherTraining()
    measure: OtherMeasuring = OtherMeasuring()


class Preset(Table):
    """Sizes of training. The sizes of networks stand in the plugins.

    ``log_every`` and ``save_every`` count optimiser steps. With ``--extended``, the values of ``extended`` replace the
    others. The values of ``sampler`` replace those of the recipe. ``joint``: training of the last round of ``guide``
    where a recipe has one (``phases.freeze``), that of ``guide`` where left out.
    """

    title: str = ""
    log_every: int = Field(default=50, ge=1)
    save_every: int = Field(default=500, ge=1)
    autoencoder: Training
    align: Training
    diffuse: Training
    guide: Training
    joint: Training | None = None
    measure: Measuring = Measuring()
    extended: Extended | None = None
    sampler: OtherSampling | None = None

    def of(self, phase: TrainingName) -> Training:
        """Return the training of one phase, or of the joint round."""
        return self.joint or self.guide if phase == "joint" else getattr(self, phase)
