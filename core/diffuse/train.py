"""Phase ``diffuse``: train one denoiser on the latents of its modality (METHOD E5, E6, E10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.diffuse.objective import draw_levels, draw_subset, noise_loss, noised
from core.engine.log import RunLog
from core.engine.loop import train_steps
from core.engine.seed import stream
from core.preprocess.studies import Studies
from core.preset import Training


def train_denoiser(
    name: str,
    denoiser: Any,
    assembly: Any,
    latents: Mapping[int, Any],
    encoders: Mapping[str, Any],
    studies: Studies,
    training: Training,
    *,
    drop: float,
    seed: int,
    log: RunLog,
) -> list[float]:
    """Predict the noise in scaled latents, prompted by a drawn subset of the neighbours that a study has.

    ``latents``: place of a study to its scaled latent ``channel *space``. ``encoders``: frozen prompt encoders of the
    flow's neighbours; the target's own is not among them. Returns the loss of every step.
    """
    import torch

    if name in encoders:
        raise ValueError(f"'{name}' would be prompted by its own embedding")
    places = list(latents)
    kind = studies.parts[name].data.kind
    for encoder in encoders.values():
        encoder.requires_grad_(False).eval()

    def losses(step: int) -> Mapping[str, Any]:
        draws = stream(seed, "diffuse", name, step)
        first = places[int(torch.randint(0, len(places), (1,), generator=draws))]
        sources = draw_subset([source for source in encoders if source in studies.visible[first]], draws)
        chosen = _with_sources(studies, places, sources, training.batch_of(kind), draws)
        prompts = {source: _prompt(encoders[source], studies, source, chosen) for source in sources}
        conditioning = assembly(prompts, torch.rand(len(chosen), generator=draws) < drop)
        z, level = torch.stack([latents[place] for place in chosen]), draw_levels(len(chosen), draws)
        noise = torch.randn(z.shape, generator=draws)
        return {"noise": noise_loss(noise, denoiser(noised(z, level, noise), level, conditioning))}

    return train_steps(
        f"diffuse {name}",
        [*denoiser.parameters(), *assembly.parameters()],
        losses,
        training,
        steps=training.num_steps(len(places), kind),
        learning_rate=training.learning_rate_of(kind),
        log=log,
    )


def _with_sources(studies: Studies, places: Sequence[int], sources: Sequence[str], size: int, draws: Any) -> list[int]:
    """Studies that have the target and all of these prompts, drawn with replacement."""
    import torch

    able = [place for place in places if set(sources) <= set(studies.visible[place])]
    return [able[index] for index in torch.randint(0, len(able), (size,), generator=draws).tolist()]


def _prompt(encoder: Any, studies: Studies, source: str, places: Sequence[int]) -> Any:
    import torch

    with torch.no_grad():
        return encoder(studies.batch(source, places))
