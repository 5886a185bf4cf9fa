"""Seconds per step of every phase at ``tiny`` on the phantom, beside a bare diffusers loop on the same UNet.

The peer is what a user would write by hand: one UNet, AdamW, clipping, latents and prompts already in memory. Ours
also encodes the prompts, draws subsets, keeps a moving average, watches for NaN, logs and writes checkpoints.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS, PATIENTS = 40, 48
FLOW = "text-xray,text-ct,ct-mri"


def measure() -> list[dict[str, Any]]:
    """A row per stage; ``ratio`` to the peer for the stages that train the peer's network."""
    import torch

    from core.engine.trainer import Trainer

    times: dict[str, float] = {}
    run = Trainer.run

    def timed(trainer: Trainer, stage: Any) -> list[float]:
        start = time.perf_counter()
        losses = run(trainer, stage)
        times[stage.title] = (time.perf_counter() - start) / stage.steps
        return losses

    torch.manual_seed(0)
    before, peer = Path.cwd(), bare_loop()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Trainer.run = timed  # type: ignore[method-assign]
        try:
            train(Path(folder), before / "registry.toml")
        finally:
            Trainer.run = run  # type: ignore[method-assign]
            os.chdir(before)
    rows = [{"stage": "bare diffusers loop, one image UNet", "s_per_step": round(peer, 4), "ratio": 1.0}]
    for title, seconds in times.items():
        same = title.startswith("diffuse") and "text" not in title
        rows.append(
            {"stage": title, "s_per_step": round(seconds, 4), "ratio": round(seconds / peer, 2) if same else ""}
        )
    return rows


def train(folder: Path, registry: Path) -> None:
    """The four phases, a few steps each, on a small cohort."""
    from core.train import main
    from plugins.phantom.cohort import make_cohort

    make_cohort(folder / "data/phantom", num=PATIENTS, progress=False)
    settings = ["training.measure.samples=8", "training.measure.steps=2", "training.measure.judge_epochs=1"]
    arguments = ["--flow", FLOW, "--run", "run", "--registry", str(registry), "--steps", str(STEPS)]
    main([*arguments, *(item for setting in settings for item in ("--set", setting))])


def bare_loop() -> float:
    """Seconds per step of the X-ray denoiser's own diffusers UNet in a plain loop."""
    import torch

    from core.config.registry import load_registry
    from core.contract.discovery import discover

    batch = load_registry(None).preset("tiny").diffuse.batch
    denoiser = discover().modalities["xray_frontal"].parts("tiny").denoiser
    assert denoiser is not None
    built = denoiser.build()
    network, width = built.network, built.prompt_width
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    z, prompt = torch.randn(batch, *built.latent_shape), torch.randn(batch, 65, width)
    for step in range(STEPS + 5):
        if step == 5:  # the first steps allocate
            start = time.perf_counter()
        noise, timestep = torch.randn_like(z), torch.randint(0, 1000, (batch,))
        found = network(z + noise, timestep, encoder_hidden_states=prompt, return_dict=False)[0]
        (found - noise).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return (time.perf_counter() - start) / STEPS
