"""Phase ``align``: one round of central alignment (METHOD E1-E3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.align.invariance import Invariance, gradient_norms
from core.align.losses import info_nce
from core.align.temperature import Temperature
from core.engine.loop import Notes, Stage, Terms
from core.engine.seed import stream
from core.engine.share import Share
from core.engine.trainer import Trainer
from core.preprocess.studies import Studies
from core.preset import Training
from core.recipe import AlignChoice
from core.types import Batch


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What a round is made of. ``encoders`` by modality; only those in ``trained``, by weight set, are not frozen."""

    name: str
    encoders: Mapping[str, Any]
    trained: Mapping[str, Any]
    pairs: Sequence[tuple[str, str]]
    studies: Studies
    training: Training
    choice: AlignChoice


def train_round(trainer: Trainer, of: Alignment) -> float:
    """Contrast every pair of the round on studies that hold both; returns the temperature that was reached.

    The moving average stays in the trained encoders.
    """
    for encoder in of.encoders.values():
        trainer.compute.placed(encoder).requires_grad_(any(encoder is module for module in of.trained.values())).eval()
    contrast = _Contrast(trainer, of)
    trainer.run(
        Stage(
            phase="align",
            name=of.name,
            modules={**of.trained, "temperature": contrast.temperature, **contrast.invariance.modules},
            losses=contrast.losses,
            training=of.training,
            steps=of.training.num_steps(sum(map(len, contrast.places.values()))),
            learning_rate=of.training.learning_rate,
            whole=True,
        )
    )
    return contrast.temperature.value


class _Contrast:
    """The losses of a round. A process encodes its share of the rows; the terms are computed of the rows of all."""

    def __init__(self, trainer: Trainer, of: Alignment) -> None:
        self.trainer, self.of, self.compute = trainer, of, trainer.compute
        self.places = {pair: tuple(of.studies.require(*pair)) for pair in of.pairs}
        self.temperature = Temperature(of.choice.temperature)
        viewed = of.trained if of.choice.visual_invariance else {}
        self.invariance = Invariance(of.encoders, viewed, of.studies, trainer.seed)
        self.parameters = list(dict.fromkeys(p for module in of.trained.values() for p in module.parameters()))

    def losses(self, step: int, share: Share) -> tuple[Terms, Notes]:
        """Contrast of every pair, and invariance of every image that is trained."""
        draws = stream(self.trainer.seed, "align", self.of.name, step)
        contrasts: dict[str, Tensor] = {}
        invariances: dict[str, Tensor] = {}
        notes: dict[str, float | Tensor] = {}
        drawn: dict[tuple[int, ...], list[int]] = {}
        encoded: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        for pair, able in self.places.items():
            # Pairs that the same studies hold share one batch, in which each modality is encoded once.
            if able not in drawn:
                size = min(self.of.training.batch, len(able))
                drawn[able] = [able[index] for index in torch.randperm(len(able), generator=draws)[:size].tolist()]
            places, size = drawn[able], len(drawn[able])
            for name in pair:
                if (name, able) not in encoded:
                    encoded[name, able] = self._pooled(name, places, step, share, invariances)
            a, b = (encoded[name, able] for name in pair)
            label, equal = "-".join(pair), self._equal(pair, places)
            with torch.autocast(self.compute.device.type, enabled=False):
                contrasts[f"contrast {label}"] = info_nce(a, b, self.temperature.logit_scale, equal)
            if equal is not None:
                notes[f"masked {label}"] = (equal.sum() - size) / 2
        if self.trainer.due(step) and invariances:
            groups = {"contrast": [*contrasts.values()], "invariance": [*invariances.values()]}
            notes |= gradient_norms(groups, self.parameters, self.compute)
        return contrasts | invariances, notes | {"temperature": self.temperature.logit_scale.detach().neg().exp()}

    def _pooled(
        self, name: str, places: Sequence[int], step: int, share: Share, invariances: dict[str, Tensor]
    ) -> Tensor:
        """Pooled vectors ``batch width`` of the whole batch, float32; of an image that is trained, of its first view.

        Adds the invariance term of the two views, once per modality.
        """
        studies, choice, size, term = self.of.studies, self.of.choice, len(places), f"invariance {name}"
        rows = share.rows(size)
        if name not in self.invariance or term in invariances:
            return self._encoded(name, studies.batch(name, places)[rows], size)
        purposes = [(self.trainer.seed, "view", self.of.name, step, number) for number in (0, 1)]
        views = [studies.view(name, places[rows], *purpose) for purpose in purposes]
        first, second = (self._encoded(name, view, size) for view in views)
        with torch.autocast(self.compute.device.type, enabled=False):
            loss = self.invariance.loss(name, first, second, choice.invariance_lambda)
        invariances[term] = choice.invariance_weight * loss
        return first

    def _encoded(self, name: str, rows: Batch, size: int) -> Tensor:
        pooled = self.of.encoders[name](self.compute.placed(rows)).pooled
        return self.compute.gathered(pooled.float(), size)

    def _equal(self, pair: tuple[str, str], places: Sequence[int]) -> Tensor | None:
        """Bool ``batch batch``: studies that say the same and so are no negatives of each other."""
        if self.of.choice.equal_reports != "masked":
            return None
        return self.compute.placed(self.of.studies.equal(pair, places))
