"""Phase ``autoencoder``: train one weight set on the data of all modalities that share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Generator, Tensor

from core.config.preset import Training
from core.data.studies import Studies
from core.encode.adversary import Adversary
from core.encode.perceptual import PerceptualLoss
from core.engine.distributed import BatchShard
from core.engine.loop import LossTerms, Metrics, Stage
from core.engine.rng import make_generator
from core.engine.trainer import Trainer
from core.errors import UserError
from core.types import Batch


@dataclass(frozen=True, kw_only=True)
class FurtherLosses:
    """What an autoencoder of images or volumes is trained by beside its own loss (method section 3).

    ``perceptual`` by modality, weighted by ``perceptual_weight``. The ``adversary`` and its loss start at step
    ``start``.
    """

    perceptual: Mapping[str, PerceptualLoss] = field(default_factory=dict)
    perceptual_weight: float = 0.0
    adversary: Adversary | None = None
    start: int = 0

    @property
    def modules(self) -> dict[str, Adversary]:
        """What trains along with the autoencoder and is dropped after the phase, by name."""
        return {} if self.adversary is None else {"adversary": self.adversary}

    def losses(self, module: Any, batch: Batch, draws: Generator, name: str, step: int) -> dict[str, Tensor]:
        """Return all terms of a batch of the modality ``name``, those of the autoencoder first."""
        if not self.perceptual and self.adversary is None:
            return dict(module.loss(batch, draws))
        if not hasattr(module, "reconstruct_with_loss"):
            raise UserError(
                f"the autoencoder of {name} ({type(module).__name__}) has no 'reconstruct_with_loss' and cannot be"
                " trained by a perceptual or adversarial loss; set autoencoder.perceptual_weight and"
                " autoencoder.adversarial_weight to 0"
            )
        reconstructed, terms = module.reconstruct_with_loss(batch, draws)
        if name in self.perceptual:
            terms["perceptual"] = self.perceptual_weight * self.perceptual[name](batch.data, reconstructed)
        if self.adversary is not None and step >= self.start:
            terms |= self.adversary.losses(batch.data, reconstructed)
        return terms


NO_FURTHER = FurtherLosses()


def train_autoencoder(
    trainer: Trainer,
    key: str,
    module: Any,
    owners: Sequence[str],
    studies: Studies,
    training: Training,
    further: FurtherLosses = NO_FURTHER,
) -> None:
    """Minimise the loss of the autoencoder for its modalities in turn; leave the moving average in ``module``."""
    kind = studies.parts[owners[0]].data.kind
    indices = {name: studies.require_indices_with(name) for name in owners}

    def losses(step: int, shard: BatchShard) -> tuple[LossTerms, Metrics]:
        draws = make_generator(trainer.seed, "autoencoder", key, step)
        name = owners[step % len(owners)]
        batch = draw_batch(
            studies, name, indices[name], training.batch_of(kind), draws, training.length_buckets_of(kind)
        )
        rows = trainer.compute.to_device(batch[shard.rows(len(batch))])
        with shard.noise(len(batch)):
            terms = further.losses(module, rows, draws, name, step)
        return shard.weighted(terms, len(batch)), {}

    steps = training.num_steps(sum(map(len, indices.values())), kind)
    if hasattr(module, "set_num_losses"):
        module.set_num_losses(steps * training.accumulate)
    trainer.run(
        Stage(
            phase="autoencoder",
            name=key,
            modules={key: module, **further.modules},
            losses=losses,
            training=training,
            steps=steps,
            learning_rate=training.learning_rate_of(kind),
            divided=kind != "tokens",
        )
    )


def draw_batch(
    studies: Studies, name: str, indices: Sequence[int], size: int, draws: Any, length_buckets: int = 1
) -> Batch:
    """Draw a batch with replacement from these studies.

    Of ``length_buckets`` batches, drawn together and sorted by length, one is taken at random. Each study is as likely
    as before, and hardly any padding is computed.
    """
    import torch

    chosen = torch.randint(0, len(indices), (length_buckets, size), generator=draws)
    if length_buckets > 1:
        drawn = chosen.flatten().tolist()
        lengths = torch.tensor([len(studies.sample(name, indices[number]).data) for number in drawn])
        order = lengths.argsort(stable=True).view(length_buckets, size)
        chosen = chosen.flatten()[order[int(torch.randint(0, length_buckets, (1,), generator=draws))]]
    return studies.batch(name, [indices[number] for number in chosen.flatten().tolist()])
