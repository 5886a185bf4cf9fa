"""Guided 3-D sampling beside MONAI's own loop with the same network, and a denoiser step beside diffusers.

``OMP_NUM_THREADS=1``; CPU time; medians of pairs that are run in turn. MONAI's loop is that of its tutorials for
classifier-free guidance: latents doubled, one call of ``DiffusionModelUNet`` for both halves, DDIM of its scheduler.
"""

from __future__ import annotations

from typing import Any

from benchmarks.coupled import LENGTH, Flow, paired, row

STEPS, REPEATS, SCALE = 5, 5, 4.0


def measure() -> list[dict[str, Any]]:
    """A row per batch size of the sampler, and one of the step."""
    import torch

    torch.set_num_threads(1)
    rows = [row(f"3-D guided sampling, batch {batch}", paired(*samplers(batch), REPEATS)) for batch in (1, 4)]
    return [*rows, row("training step of a 2-D denoiser, batch 16", paired(*training_steps(16), 2 * REPEATS))]


def samplers(batch: int) -> tuple[Any, Any]:
    """Our sampler and MONAI's loop, of networks with the same sizes and prompts."""
    import torch
    from monai.networks.schedulers import DDIMScheduler

    from core.config.sampler import SamplerChoice
    from core.generate.guidance import Guidance
    from core.generate.joint_sampling import sample_jointly
    from core.nn.denoisers.unet3d import _from_scratch

    torch.manual_seed(0)
    flow = Flow("ct", batch, "tiny3d")
    network, output = monai_network(_from_scratch), flow.output(Guidance(scale=SCALE), alone=True)
    sampler, scheduler = SamplerChoice(steps=STEPS), DDIMScheduler(num_train_timesteps=1000)
    prompt = torch.cat([flow.null.prompt, flow.prompted.prompt])
    pooled = torch.cat([flow.null.pooled, flow.prompted.pooled])

    def ours() -> None:
        sample_jointly({"ct": output}, {}, seed=0, indices=range(batch), sampler=sampler)

    @torch.no_grad()
    def monai() -> None:
        scheduler.set_timesteps(STEPS)
        z = torch.randn(batch, *flow.denoiser.latent_shape)
        for step in scheduler.timesteps:
            both = network(torch.cat([z, z]), timesteps=step.expand(2 * batch), context=prompt, class_labels=pooled)
            null, prompted = both.chunk(2)
            z, _ = scheduler.step(null + SCALE * (prompted - null), step, z)

    return ours, monai


def monai_network(build: Any) -> Any:
    """MONAI's network of the 3-D CT denoiser, untouched."""
    from core.contract.discovery import discover

    config = discover().modalities["ct"].parts("tiny3d").denoiser
    return build(getattr(config, "config", config)).eval()


def training_steps(batch: int) -> tuple[Any, Any]:
    """A step of our denoiser and one of its diffusers network, both with a masked prompt."""
    import torch

    from core.contract.discovery import discover
    from core.nn.denoisers.unet2d import _from_scratch

    torch.manual_seed(0)
    flow = Flow("ct", batch, "tiny")
    config = discover().modalities["ct"].parts("tiny").denoiser
    network = _from_scratch(getattr(config, "config", config))
    z, level, timestep = torch.randn(batch, *flow.denoiser.latent_shape), torch.randn(batch), torch.full((batch,), 500)
    pooled = {} if flow.denoiser.pooled_width is None else {"class_labels": flow.prompted.pooled}
    mask = torch.ones(batch, LENGTH, dtype=torch.bool)
    flow.denoiser.requires_grad_(True)

    def ours() -> None:
        flow.denoiser(z, level, flow.prompted).square().mean().backward()
        flow.denoiser.zero_grad()

    def diffusers() -> None:
        found = network(z, timestep, flow.prompted.prompt, encoder_attention_mask=mask, return_dict=False, **pooled)[0]
        found.square().mean().backward()
        network.zero_grad()

    return ours, diffusers
