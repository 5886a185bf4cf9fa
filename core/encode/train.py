"""Phase ``autoencoder``: train one weight set on the data of all modalities that share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.config.preset import Training
from core.data.studies import Studies
from core.engine.distributed import BatchShard
from core.engine.loop import LossTerms, Metrics, Stage
from core.engine.rng import make_generator
from core.engine.trainer import Trainer
from core.types import Batch


def train_autoencoder(
    trainer: Trainer, key: str, module: Any, owners: Sequence[str], studies: Studies, training: Training
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
            terms: Mapping[str, Any] = module.loss(rows, draws)
        return shard.weighted(terms, len(batch)), {}

    trainer.run(
        Stage(
            phase="autoencoder",
            name=key,
            modules={key: module},
            losses=losses,
            training=training,
            steps=training.num_steps(sum(map(len, indices.values())), kind),
            learning_rate=training.learning_rate_of(kind),
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
        lengths = torch.tensor([len(studies.sample(name, indices[number]).data) for number in chosen.flatten()])
        order = lengths.argsort(stable=True).view(length_buckets, size)
        chosen = chosen.flatten()[order[int(torch.randint(0, length_buckets, (1,), generator=draws))]]
    return studies.batch(name, [indices[number] for number in chosen.flatten().tolist()])
