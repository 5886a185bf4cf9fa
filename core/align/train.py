"""Phase ``align``: one round of central alignment (method E1 to E3); labels take part by `core.align.supervision`."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from core.align.findings import FindingExtractor, StudyFindings
from core.align.invariance import Invariance, gradient_norms
from core.align.losses import Temperature
from core.align.supervision import Key, LabelSupervision
from core.config.preset import Training
from core.config.recipe import AlignChoice
from core.data.studies import Studies
from core.engine.distributed import BatchShard
from core.engine.loop import LossTerms, Metrics, Stage
from core.engine.rng import make_generator
from core.engine.trainer import Trainer
from core.types import Batch


@dataclass(frozen=True, kw_only=True)
class AlignRound:
    """The parts of a round. ``encoders`` by modality; only those in ``trained``, by weight set, are not frozen.

    ``findings_of`` and ``details_of`` extract findings from the texts of a data set, by its name.
    """

    name: str
    encoders: Mapping[str, Any]
    trained: Mapping[str, Any]
    pairs: Sequence[tuple[str, str]]
    studies: Studies
    training: Training
    choice: AlignChoice
    findings_of: Mapping[str, FindingExtractor] = field(default_factory=dict)
    details_of: Mapping[str, FindingExtractor] = field(default_factory=dict)


def train_round(trainer: Trainer, align_round: AlignRound) -> float:
    """Contrast every pair of the round on studies that hold both; return the temperature that was reached.

    The trained encoders end with the weights of the moving average.
    """
    for encoder in align_round.encoders.values():
        trainer.compute.to_device(encoder).requires_grad_(_is_trained(align_round, encoder)).eval()
    contrast = _Contrast(trainer, align_round)
    training = align_round.training
    trainer.run(
        Stage(
            phase="align",
            name=align_round.name,
            modules={**align_round.trained, **contrast.modules},
            losses=contrast.losses,
            training=training,
            steps=training.num_steps(max(map(len, contrast.paired))),  # every step draws of each
            learning_rate=training.learning_rate,
            whole=True,
        )
    )
    return contrast.temperature.value


class _Contrast:
    """The losses of a round. A process encodes its shard of the rows; the terms are computed of the rows of all."""

    def __init__(self, trainer: Trainer, align_round: AlignRound) -> None:
        self.trainer, self.round, self.compute = trainer, align_round, trainer.compute
        studies, choice = align_round.studies, align_round.choice
        of_pair = {pair: tuple(studies.require_indices_with(*pair)) for pair in align_round.pairs}
        # Pairs that the same studies hold share a draw.
        self.paired = list(dict.fromkeys(of_pair.values()))
        self.draw_of = {pair: self.paired.index(indices) for pair, indices in of_pair.items()}
        self.temperature = Temperature(choice.temperature)
        viewed = align_round.trained if choice.visual_invariance else {}
        self.invariance = Invariance(align_round.encoders, viewed, studies, trainer.seed)
        in_pairs = {index for indices in self.paired for index in indices}
        self.supervision = _supervision(align_round, in_pairs, trainer)
        # A draw for each pair, then one of the unpaired studies whose findings are known.
        unpaired = self.supervision.unpaired
        self.drawn_from = [*self.paired, *unpaired.values()]
        self.keys = [(name, draw) for pair, draw in self.draw_of.items() for name in pair]
        self.keys += [(name, len(self.paired) + number) for number, name in enumerate(unpaired)]
        modules = align_round.trained.values()
        self.parameters = list(dict.fromkeys(weight for module in modules for weight in module.parameters()))

    @property
    def modules(self) -> dict[str, Any]:
        """The modules that train along with the encoders, and are dropped after the round."""
        return {"temperature": self.temperature, **self.invariance.modules, **self.supervision.modules}

    def losses(self, step: int, shard: BatchShard) -> tuple[LossTerms, Metrics]:
        """Return the contrast of every pair, the invariance of every trained image, and the loss of the probe."""
        self.temperature.bound()
        drawn = self._draw(step)
        views, invariances = self._encode(drawn, step, shard)
        contrasts: dict[str, Tensor] = {}
        metrics: dict[str, float | Tensor] = {}
        for pair, draw in self.draw_of.items():
            for pooled in views:
                with torch.autocast(self.compute.device.type, enabled=False):
                    first, second = (pooled[name, draw] for name in pair)
                    scale = self.temperature.logit_scale
                    term, masked = self.supervision.contrast(pair, drawn[draw], first, second, scale)
                title = f"contrast {'-'.join(pair)}"
                contrasts[title] = contrasts.get(title, 0) + term / len(views)
                metrics |= masked
        if self.trainer.due(step) and invariances:
            groups = {"contrast": [*contrasts.values()], "invariance": [*invariances.values()]}
            metrics |= gradient_norms(groups, self.parameters, self.compute)
        terms = contrasts | invariances | self.supervision.losses(views, drawn)
        return terms, metrics | {"temperature": self.temperature.logit_scale.detach().neg().exp()}

    def _draw(self, step: int) -> list[list[int]]:
        """Return the studies of a step, by the number of the draw."""
        generator = make_generator(self.trainer.seed, "align", self.round.name, step)
        drawn = []
        for indices in self.drawn_from:
            size = min(self.round.training.batch, len(indices))
            order = torch.randperm(len(indices), generator=generator)[:size].tolist()
            drawn.append([indices[position] for position in order])
        return drawn

    def _encode(
        self, drawn: Sequence[Sequence[int]], step: int, shard: BatchShard
    ) -> tuple[list[dict[Key, Tensor]], dict[str, Tensor]]:
        """Return pooled vectors ``batch width`` of the whole batch by modality and draw, float32; invariance by image.

        A trained image is seen in augmented views, the first draw of each in two. This gives two sets of vectors, which
        differ by the second views, or one set where there are no second views.
        """
        keys = list(dict.fromkeys(self.keys))
        sizes = {key: len(drawn[key[1]]) for key in keys}
        viewed = [key for key in keys if key[0] in self.invariance]
        firsts = {name: (name, draw) for name, draw in reversed(viewed)}
        twice = [key for key in viewed if key == firsts[key[0]]]
        first, second = (
            {key: self._view(key, drawn[key[1]], step, number, shard) for key in seen}
            for number, seen in enumerate((viewed, twice))
        )
        for key in (key for key in keys if key not in first):
            first[key] = self._unviewed(key, drawn[key[1]][shard.rows(sizes[key])], step)
        pooled, again = self._pooled(first, sizes), self._pooled(second, sizes)
        invariances, choice = {}, self.round.choice
        for name, draw in second:
            with torch.autocast(self.compute.device.type, enabled=False):
                term = self.invariance.loss(name, pooled[name, draw], again[name, draw], choice.invariance_lambda)
            invariances[f"invariance {name}"] = choice.invariance_weight * term
        return [pooled, pooled | again] if again else [pooled], invariances

    def _view(self, key: Key, indices: Sequence[int], step: int, number: int, shard: BatchShard) -> Batch:
        rows, purpose = shard.rows(len(indices)), ("view", self.round.name, step, number)
        return self.round.studies.augmented_batch(key[0], indices[rows], self.trainer.seed, *purpose)

    def _unviewed(self, key: Key, indices: Sequence[int], step: int) -> Batch:
        """Return samples as they are, but texts whose encoder is trained with some sentences left out (method E6d)."""
        name, studies, share = key[0], self.round.studies, self.round.choice.sentence_dropout
        if not share or name not in _texts(self.round) or not _is_trained(self.round, self.round.encoders[name]):
            return studies.batch(name, indices)
        return studies.shortened_batch(name, indices, share, self.trainer.seed, "sentences", self.round.name, step)

    def _pooled(self, batches: Mapping[Key, Batch], sizes: Mapping[Key, int]) -> dict[Key, Tensor]:
        """Return the pooled vectors of each batch, ``sizes`` rows in all processes together.

        Images that share an encoder go through it together. Otherwise batch normalisation would train on the statistics
        of each modality, and later apply those of the mixture to all of them (docs/decisions/0016).
        """
        pooled = {}
        for keys in self._together(batches):
            encoder = self.round.encoders[keys[0][0]]
            vectors = encoder(self.compute.to_device(_joined([batches[key] for key in keys]))).pooled.float()
            parts = vectors.split([len(batches[key].data) for key in keys])
            pooled |= {key: self.compute.all_gather(part, sizes[key]) for key, part in zip(keys, parts, strict=True)}
        return pooled

    def _together(self, batches: Mapping[Key, Batch]) -> list[list[Key]]:
        """Return groups of batches that go through an encoder at once: images of one shape."""
        groups: dict[Hashable, list[Key]] = {}
        for key, batch in batches.items():
            image = self.round.studies.parts[key[0]].data.kind == "grid"
            shape = tuple(batch.data.shape[1:]) if image else key
            groups.setdefault((id(self.round.encoders[key[0]]), shape), []).append(key)
        return list(groups.values())


def _is_trained(align_round: AlignRound, encoder: object) -> bool:
    return any(encoder is module for module in align_round.trained.values())


def _texts(align_round: AlignRound) -> list[str]:
    """Return the text modalities of the round."""
    return [name for name in align_round.encoders if align_round.studies.parts[name].data.kind == "tokens"]


def _supervision(align_round: AlignRound, paired: Collection[int], trainer: Trainer) -> LabelSupervision:
    studies, encoders = align_round.studies, align_round.encoders
    return LabelSupervision(
        align_round.choice,
        studies,
        StudyFindings(studies, _texts(align_round), align_round.findings_of, align_round.details_of),
        paired=paired,
        trained=[name for name, encoder in encoders.items() if _is_trained(align_round, encoder)],
        width=next(iter(encoders.values())).width,
        name=align_round.name,
        seed=trainer.seed,
        compute=trainer.compute,
    )


def _joined(batches: Sequence[Batch]) -> Batch:
    """Return batches of images of one shape as one, under the name of the first."""
    if len(batches) == 1:
        return batches[0]
    return Batch(modality=batches[0].modality, data=torch.cat([batch.data for batch in batches]))
