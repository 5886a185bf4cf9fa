"""Phase ``align``: one round of central alignment (METHOD E1-E3), with findings where a recipe asks for them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from core.align.findings import FindingProbe, FindingExtractor, StudyFindings
from core.align.invariance import Invariance, gradient_norms
from core.align.losses import Temperature, info_nce, semantic_matching
from core.config.preset import Training
from core.config.recipe import AlignChoice
from core.data.studies import Studies
from core.engine.distributed import BatchShard
from core.engine.loop import LossTerms, Metrics, Stage
from core.engine.rng import make_generator
from core.engine.trainer import Trainer
from core.types import Batch

Key = tuple[str, int]  # a modality, and the number of the draw that its studies come from


@dataclass(frozen=True, kw_only=True)
class AlignRound:
    """What a round is made of. ``encoders`` by modality; only those in ``trained``, by weight set, are not frozen.

    ``findings_of`` and ``details_of`` read the texts of a data set, by its name.
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


def train_round(trainer: Trainer, of: AlignRound) -> float:
    """Contrast every pair of the round on studies that hold both; returns the temperature that was reached.

    The moving average stays in the trained encoders.
    """
    for encoder in of.encoders.values():
        trainer.compute.to_device(encoder).requires_grad_(
            any(encoder is module for module in of.trained.values())
        ).eval()
    contrast = _Contrast(trainer, of)
    trainer.run(
        Stage(
            phase="align",
            name=of.name,
            modules={**of.trained, **contrast.modules},
            losses=contrast.losses,
            training=of.training,
            steps=of.training.num_steps(max(map(len, contrast.able))),  # every step draws of each
            learning_rate=of.training.learning_rate,
            whole=True,
        )
    )
    return contrast.temperature.value


class _Contrast:
    """The losses of a round. A process encodes its share of the rows; the terms are computed of the rows of all."""

    def __init__(self, trainer: Trainer, of: AlignRound) -> None:
        self.trainer, self.of, self.compute = trainer, of, trainer.compute
        self.indices = {pair: tuple(of.studies.require_indices_with(*pair)) for pair in of.pairs}
        # Pairs that the same studies hold share a draw.
        self.able = list(dict.fromkeys(self.indices.values()))
        self.draw_of = {pair: self.able.index(able) for pair, able in self.indices.items()}
        self.temperature = Temperature(of.choice.temperature)
        viewed = of.trained if of.choice.visual_invariance else {}
        self.invariance = Invariance(of.encoders, viewed, of.studies, trainer.seed)
        self.told = StudyFindings(of.studies, _texts(of), of.findings_of, of.details_of)
        paired = {index for indices in self.able for index in indices}
        self.findings = _findings(of, self.told, paired, trainer.seed)
        # A draw for each pair, then one of the studies that have no partner and can be read for findings.
        self.alone = {} if self.findings is None else _alone(of, self.told, paired)
        self.drawn_from = [*self.able, *self.alone.values()]
        self.keys = [(name, draw) for pair, draw in self.draw_of.items() for name in pair]
        self.keys += [(name, len(self.able) + number) for number, name in enumerate(self.alone)]
        self.parameters = list(dict.fromkeys(p for module in of.trained.values() for p in module.parameters()))

    @property
    def modules(self) -> dict[str, Any]:
        """What trains beside the encoders, and is thrown away."""
        findings = {} if self.findings is None else {"findings": self.findings}
        return {"temperature": self.temperature, **self.invariance.modules, **findings}

    def losses(self, step: int, shard: BatchShard) -> tuple[LossTerms, Metrics]:
        """Contrast of every pair, invariance of every image that is trained, and what all tell of findings."""
        self.temperature.bound()
        drawn = self._drawn(step)
        views, invariances = self._encoded(drawn, step, shard)
        contrasts: dict[str, Tensor] = {}
        notes: dict[str, float | Tensor] = {}
        for pair, draw in self.draw_of.items():
            for pooled in views:
                with torch.autocast(self.compute.device.type, enabled=False):
                    term, told = self._contrast(pair, drawn[draw], *(pooled[name, draw] for name in pair))
                title = f"contrast {'-'.join(pair)}"
                contrasts[title] = contrasts.get(title, 0) + term / len(views)
                notes |= told
        if self.trainer.due(step) and invariances:
            groups = {"contrast": [*contrasts.values()], "invariance": [*invariances.values()]}
            notes |= gradient_norms(groups, self.parameters, self.compute)
        terms = contrasts | invariances | self._asked(views, drawn)
        return terms, notes | {"temperature": self.temperature.logit_scale.detach().neg().exp()}

    def _drawn(self, step: int) -> list[list[int]]:
        """The studies of a step, by the number of the draw."""
        draws = make_generator(self.trainer.seed, "align", self.of.name, step)
        drawn = []
        for able in self.drawn_from:
            size = min(self.of.training.batch, len(able))
            drawn.append([able[index] for index in torch.randperm(len(able), generator=draws)[:size].tolist()])
        return drawn

    def _encoded(
        self, drawn: Sequence[Sequence[int]], step: int, shard: BatchShard
    ) -> tuple[list[dict[Key, Tensor]], dict[str, Tensor]]:
        """Pooled vectors ``batch width`` of the whole batch by modality and draw, float32; invariance by image.

        An image that is trained is seen in views, the first draw of each in two, and everything else as it is: two sets
        of vectors, which differ by the second views, or one where there are none.
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
            first[key] = self.of.studies.batch(key[0], drawn[key[1]])[shard.rows(sizes[key])]
        one, two = self._pooled(first, sizes), self._pooled(second, sizes)
        invariances = {}
        for name, draw in second:
            with torch.autocast(self.compute.device.type, enabled=False):
                term = self.invariance.loss(name, one[name, draw], two[name, draw], self.of.choice.invariance_lambda)
            invariances[f"invariance {name}"] = self.of.choice.invariance_weight * term
        return [one, one | two] if two else [one], invariances

    def _view(self, key: Key, indices: Sequence[int], step: int, number: int, shard: BatchShard) -> Batch:
        rows, purpose = shard.rows(len(indices)), ("view", self.of.name, step, number)
        return self.of.studies.augmented_batch(key[0], indices[rows], self.trainer.seed, *purpose)

    def _pooled(self, batches: Mapping[Key, Batch], sizes: Mapping[Key, int]) -> dict[Key, Tensor]:
        """What the encoders make of each batch, ``sizes`` rows in all processes together.

        Images that share an encoder go through it together: batch normalisation would learn each by its own statistics,
        and afterwards read all of them by those of the mixture (docs/decisions/0016).
        """
        pooled = {}
        for keys in self._together(batches):
            encoder = self.of.encoders[keys[0][0]]
            found = encoder(self.compute.to_device(_joined([batches[key] for key in keys]))).pooled.float()
            parts = found.split([len(batches[key].data) for key in keys])
            pooled |= {key: self.compute.all_gather(part, sizes[key]) for key, part in zip(keys, parts, strict=True)}
        return pooled

    def _together(self, batches: Mapping[Key, Batch]) -> list[list[Key]]:
        """The batches by what goes through an encoder at once: images of one shape."""
        groups: dict[Hashable, list[Key]] = {}
        for key, batch in batches.items():
            image = self.of.studies.parts[key[0]].data.kind == "grid"
            shape = tuple(batch.data.shape[1:]) if image else key
            groups.setdefault((id(self.of.encoders[key[0]]), shape), []).append(key)
        return list(groups.values())

    def _asked(self, views: Sequence[Mapping[Key, Tensor]], drawn: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """What the pooled vectors tell of findings, by modality; the mean over views, the sum over draws."""
        terms: dict[str, Tensor] = {}
        if self.findings is None:
            return terms
        for (name, draw), vectors in ((key, found) for pooled in views for key, found in pooled.items()):
            with torch.autocast(self.compute.device.type, enabled=False):
                term = self.of.choice.findings_weight * self.findings.loss(vectors, drawn[draw])
            terms[f"findings {name}"] = terms.get(f"findings {name}", 0) + term / len(views)
        return terms

    def _contrast(
        self, pair: tuple[str, str], indices: Sequence[int], a: Tensor, b: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The contrast of a pair, and how many pairs of studies were no negatives of each other where some are masked.

        Soft targets are for a text and something else. Two images share more than findings, and are masked instead.
        """
        choice, studies, scale = self.of.choice, self.of.studies, self.temperature.logit_scale
        spoken = any(studies.parts[name].data.kind == "tokens" for name in pair)
        if choice.equal_reports == "soft" and spoken:
            told = [self.told.all_of(index) for index in indices]
            similarity = self.compute.to_device(studies.similarity(pair, indices, told))
            return semantic_matching(a, b, scale, similarity, choice.target_temperature), {}
        if choice.equal_reports == "negatives":
            return info_nce(a, b, scale), {}
        equal = self.compute.to_device(studies.same_text_mask(pair, indices))
        return info_nce(a, b, scale, equal), {f"masked {'-'.join(pair)}": (equal.sum() - len(indices)) / 2}


def _texts(of: AlignRound) -> list[str]:
    """The modalities of the round that are texts."""
    return [name for name in of.encoders if of.studies.parts[name].data.kind == "tokens"]


def _findings(of: AlignRound, told: StudyFindings, paired: Iterable[int], seed: int) -> FindingProbe | None:
    """The reader of findings, where the recipe asks for one and the studies differ in some."""
    names = told.differing(paired) if of.choice.findings_weight else ()
    width = next(iter(of.encoders.values())).width
    return FindingProbe(names, told, width, seed) if names else None


def _alone(of: AlignRound, told: StudyFindings, paired: Collection[int]) -> dict[str, tuple[int, ...]]:
    """By modality that is trained, the studies without a partner whose findings are known."""
    trained = [name for name, encoder in of.encoders.items() if any(encoder is one for one in of.trained.values())]
    found = {name: told.alone(name, paired) for name in trained}
    return {name: indices for name, indices in found.items() if indices}


def _joined(batches: Sequence[Batch]) -> Batch:
    """Batches of images of one shape as one, under the name of the first."""
    if len(batches) == 1:
        return batches[0]
    return Batch(modality=batches[0].modality, data=torch.cat([batch.data for batch in batches]))
