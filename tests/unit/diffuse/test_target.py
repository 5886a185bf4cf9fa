"""What a denoiser may be prompted with."""

from types import SimpleNamespace

import pytest
import torch

from core.config.recipe import PromptChoice
from core.diffuse import train
from core.diffuse.train import Target
from core.engine.distributed import BatchShard
from core.types import Conditioning

PROMPT = PromptChoice(form="pooled_and_neighbour_tokens", drop=0.5)


def target(*encoders):
    latents = torch.zeros(1, 4)
    return Target(name="ct", indices=[0], latents=latents, assembly=None, encoders=dict.fromkeys(encoders))


def test_a_target_is_not_prompted_by_its_embedding():
    """It would be conditioned on what it is to generate."""
    assert target("text", "mri").name == "ct"
    with pytest.raises(ValueError, match="'ct' would be prompted by its embedding"):
        target("text", "ct")


class Recorder:
    """Stands for assembly and denoiser: which studies were prompted, and which latents were shown."""

    def __init__(self):
        self.prompted, self.latents = [], []

    def assemble(self, prompts, dropped, alone):
        indices = prompts.get("text", [None] * len(dropped))
        self.prompted += [index for index, drop in zip(indices, dropped.tolist(), strict=True) if not drop]
        self.dropped = dropped
        return Conditioning(prompt=torch.zeros(len(dropped), 1, 2))

    def denoise(self, z, level, conditioning):
        self.latents += [(int(row[0]), bool(drop)) for row, drop in zip(z, self.dropped, strict=True)]
        return z


@pytest.fixture
def clean_levels():
    parameterisation = SimpleNamespace(draw_levels=lambda batch, draws: torch.full((batch,), torch.inf))
    parameterisation.loss = lambda z, noise, level, predicted: (z - predicted).square().mean()
    return parameterisation


def test_what_is_hidden_from_pairing_is_learned_from_without_a_prompt(monkeypatch, clean_levels):
    """Studies 0 to 9 are a pool of CT and text, in 10 to 19 CT is hidden, 20 to 29 have no text."""
    monkeypatch.setattr(
        train, "StudyPrompts",
        lambda *given, **options: SimpleNamespace(prompts_of=lambda chosen, versions: list(chosen)),
    )  # fmt: skip
    studies = SimpleNamespace(visible=[("text", "ct")] * 10 + [("text",)] * 10 + [("ct",)] * 10)
    trainer = SimpleNamespace(seed=0, compute=SimpleNamespace(to_device=lambda value: value))
    recorder = Recorder()
    ct = Target(
        name="ct", indices=range(30), latents=torch.arange(30.0)[:, None].expand(30, 4),
        assembly=recorder.assemble, encoders={"text": None},
    )  # fmt: skip
    step = train._Step(trainer, recorder.denoise, ct, studies, 16, PROMPT)
    for number in range(40):
        step.losses(number, BatchShard(), clean_levels)
    assert set(recorder.prompted) == set(range(10))
    assert {index for index, dropped in recorder.latents if not dropped} == set(range(10))
    assert {index for index, dropped in recorder.latents if dropped} == set(range(30))
