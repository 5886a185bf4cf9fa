"""Joint sampling of four modalities beside four single ones at equal steps, and beside a sampler of CoDi's shape.

``OMP_NUM_THREADS=1``; CPU time; medians of pairs that are run in turn. Both samplers guide by the prompt, in two
branches. The peer of CoDi's shape (Tang et al. 2023) does what its published code does: it denoises the flows one after
the other, each in two halves, and in each half every block reads the other flows pooled to one vector, which an
encoder makes of their current latents.
"""

from __future__ import annotations

from typing import Any

from benchmarks.coupled import MODALITIES, RECIPES, coupled_flows, paired, row

STEPS, REPEATS = 4, 5


def measure() -> list[dict[str, Any]]:
    """A row per batch size, recipe and peer."""
    import torch

    torch.set_num_threads(1)
    return [each for recipe in RECIPES for batch in (1, 4) for each in of_batch(batch, recipe)]


def of_batch(batch: int, recipe: str) -> list[dict[str, Any]]:
    """Rows of one batch size."""
    from core.config.sampler import SamplerChoice
    from core.generate.guidance import Guidance
    from core.generate.joint_sampling import sample_jointly

    flows, guided = coupled_flows(MODALITIES, batch, recipe=recipe), Guidance(scale=4.0)
    both = Guidance(scale=4.0, context_scale=3.0)
    sampler, indices = SamplerChoice(steps=STEPS), range(batch)

    def sample(outputs: dict[str, Any], **options: Any) -> None:
        sample_jointly(outputs, {}, seed=0, indices=indices, sampler=sampler, **options)

    def joint(guidance: Guidance = guided, **options: Any) -> None:
        sample({name: flow.output(guidance) for name, flow in flows.items()}, **options)

    def single() -> None:
        for name, flow in flows.items():
            sample({name: flow.output(guided, alone=True)})

    pooled = CoDiShaped(coupled_flows(MODALITIES, batch, recipe="medm2g"), batch)
    return [
        row(f"{recipe}: four jointly, batch {batch}, beside four single ones", paired(joint, single, REPEATS)),
        row(
            f"{recipe}: with guidance by partners too (three branches), batch {batch}, beside four single ones",
            paired(lambda: joint(both), single, REPEATS),
        ),
        row(
            f"{recipe}: four jointly, batch {batch}, beside a sampler of CoDi's shape",
            paired(joint, pooled.sample, REPEATS),
        ),
    ]


class CoDiShaped:
    """A plain loop over the flows: two halves each, partners as one pooled vector, DDIM."""

    def __init__(self, flows: dict[str, Any], batch: int) -> None:
        from core.generate.joint_sampling import shared_schedule

        self.flows, self.batch = flows, batch
        self.levels = shared_schedule(STEPS)

    def sample(self) -> None:
        """Denoise all flows over the schedule."""
        import torch

        from core.nn import alpha_sigma

        with torch.no_grad():
            z = {name: torch.randn(self.batch, *flow.denoiser.latent_shape) for name, flow in self.flows.items()}
            for level, following in zip(self.levels[:-1], self.levels[1:], strict=True):
                noise = {name: self._predicted(name, z, level) for name in self.flows}
                (a, s), (b, t) = alpha_sigma(level), alpha_sigma(following)
                z = {name: b * (z[name] - s * noise[name]) / a + t * noise[name] for name in z}

    def _predicted(self, name: str, z: dict[str, Any], level: Any) -> Any:
        import torch

        flow, levels = self.flows[name], level.expand(self.batch)
        halves = [
            flow.denoiser(z[name], levels, _with_context(each, self._pooled(name, z, levels)))
            for each in (flow.null, flow.prompted)
        ]
        return torch.lerp(*halves, 4.0)

    def _pooled(self, receiver: str, z: dict[str, Any], levels: Any) -> Any:
        """The partners of a flow, each as the mean of its encoder's tokens, without positions."""
        import torch

        from core.types import Context

        noisy = torch.zeros(self.batch, dtype=torch.bool)
        others = [name for name in self.flows if name != receiver]
        tokens = [self.flows[name].context_encoder(z[name], levels, noisy).tokens.mean(1) for name in others]
        shape = (self.batch, len(others), 3)
        return Context(
            tokens=torch.stack(tokens, 1),
            mask=torch.ones(shape[:2], dtype=torch.bool),
            position_mm=torch.zeros(shape),
            axes=torch.zeros(shape, dtype=torch.bool),
        )


def _with_context(conditioning: Any, context: Any) -> Any:
    from dataclasses import replace

    return replace(conditioning, context=context)
