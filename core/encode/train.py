"""Phase ``autoencoder``: train one weight set, then measure the latent scale of each modality that owns it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.encode.latents import fit_scale
from core.engine.log import RunLog
from core.engine.loop import train_steps
from core.engine.seed import stream
from core.preprocess.studies import Studies
from core.preset import Training
from core.types import Batch, LatentSpec

_ROWS = 64  # samples at once when the scale is measured


def train_autoencoder(
    key: str, module: Any, owners: Sequence[str], studies: Studies, training: Training, *, seed: int, log: RunLog
) -> None:
    """Minimise the autoencoder's own loss on the union of its owners' data, owners in turn."""
    kind = studies.parts[owners[0]].data.kind
    places = {name: studies.require(name) for name in owners}

    def losses(step: int) -> Mapping[str, Any]:
        draws = stream(seed, "autoencoder", key, step)
        name = owners[step % len(owners)]
        return module.loss(draw_batch(studies, name, places[name], training.batch_of(kind), draws), draws)

    steps = training.num_steps(sum(map(len, places.values())), kind)
    train_steps(
        f"autoencoder {key}",
        module.parameters(),
        losses,
        training,
        steps=steps,
        learning_rate=training.learning_rate_of(kind),
        log=log,
    )


def draw_batch(studies: Studies, name: str, places: Sequence[int], size: int, draws: Any) -> Batch:
    """A batch drawn with replacement from these studies."""
    import torch

    chosen = torch.randint(0, len(places), (size,), generator=draws).tolist()
    return studies.batch(name, [places[index] for index in chosen])


def measure_scale(module: Any, name: str, studies: Studies) -> LatentSpec:
    """Scale and shift of one modality's latents over its whole training set (METHOD E7)."""
    return fit_scale(module.spec, latent_means(module, name, studies.having(name), studies))


def latent_means(module: Any, name: str, places: Sequence[int], studies: Studies) -> Iterator[Any]:
    """Posterior means ``batch channel *space``, a batch at a time, in the order of ``places``."""
    import torch

    module.eval()
    for start in range(0, len(places), _ROWS):
        with torch.no_grad():
            yield module.encode(studies.batch(name, places[start : start + _ROWS])).mean
