import math

import pytest
import torch
from torch import nn

from core.config.preset import Training
from core.engine.loop import StepLoop
from core.engine.optimiser import decayed_parameters, load_moments, make_optimiser, moments, schedule
from core.errors import UserError


def training(**settings):
    return Training(**{"steps": 1, "batch": 1, "learning_rate": 1e-3, **settings})


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0), (100, 10), (7, 3), (1, 0), (1, 5)])
def test_closed_form(steps, warmup):
    """(step + 1) / warmup, then cos²(π/2 · progress): written by the half-angle, not as the code has it."""
    for step in range(steps):
        expected = (
            (step + 1) / warmup if step < warmup else math.cos(math.pi / 2 * (step - warmup) / (steps - warmup)) ** 2
        )
        assert schedule(step, steps, warmup) == pytest.approx(expected, abs=1e-12)


def test_values_along_the_schedule():
    assert schedule(0, 110, 10) == pytest.approx(0.1)
    assert schedule(9, 110, 10) == schedule(10, 110, 10) == 1
    assert schedule(60, 110, 10) == pytest.approx(0.5)
    assert schedule(109, 110, 10) == pytest.approx(0, abs=1e-3)
    assert schedule(109, 110, 10) > 0


def test_a_constant_rate_rises_and_stays():
    assert [schedule(step, 8, 4, "constant") for step in range(8)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("kind", "last"), [("constant", 0.05), ("cosine", 0.05 * math.cos(math.pi / 2 * 8 / 9) ** 2)])
def test_the_steps_follow_the_schedule(make_stage, compute, kind, last):
    loop = StepLoop(make_stage(12, schedule=kind), compute, 0)
    for _ in range(12):
        loop.advance()
    assert loop.row["learning_rate"] == pytest.approx(last)


def test_nothing_to_train_is_refused():
    with pytest.raises(UserError, match="every weight of this phase is frozen"):
        make_optimiser({}, (), training(), 1e-3)


def test_the_name_of_the_optimiser_decides_the_decay_where_none_is_given():
    assert training().decay == training(optimiser="adamw").decay == 0.01
    assert training(optimiser="adam").decay == 0
    assert training(optimiser="adam", weight_decay=1e-4).decay == training(weight_decay=1e-4).decay == 1e-4
    assert training(weight_decay=0).decay == 0


def steps(weights, optimiser, count=25):
    """Steps with the same gradients for every optimiser: small, so that a decay in the gradient would show."""
    draws = torch.Generator().manual_seed(1)
    for _ in range(count):
        for weight in weights:
            weight.grad = 1e-3 * torch.randn(weight.shape, generator=draws)
        optimiser.step()
    return [weight.detach() for weight in weights]


def fresh():
    draws = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draws)) for shape in ((3, 4), (4,))]


def test_adam_is_adam_and_does_not_decay():
    found, expected = fresh(), fresh()
    ours = make_optimiser({"a": found[0], "b": found[1]}, {"a"}, training(optimiser="adam"), 1e-2)
    theirs = torch.optim.Adam(expected, lr=1e-2)
    for own, other in zip(steps(found, ours), steps(expected, theirs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_a_given_decay_shrinks_the_weight_and_not_its_gradient(optimiser):
    """Decoupled, w <- w (1 - rate decay) before Adam's step; what is not decayed takes Adam's step alone."""
    found, expected = fresh(), fresh()
    given = training(optimiser=optimiser, weight_decay=0.3)
    ours = make_optimiser({"a": found[0], "b": found[1]}, {"a"}, given, 1e-2)
    theirs = torch.optim.Adam(expected, lr=1e-2)
    draws = torch.Generator().manual_seed(1)
    for _ in range(25):
        for weight in expected:
            weight.grad = 1e-3 * torch.randn(weight.shape, generator=draws)
        with torch.no_grad():
            expected[0].mul_(1 - 1e-2 * 0.3)
        theirs.step()
    for own, other in zip(steps(found, ours), expected, strict=True):
        torch.testing.assert_close(own, other.detach(), rtol=1e-5, atol=1e-6)


class Everything(nn.Module):
    """One parameter of every kind that the rule names."""

    def __init__(self):
        super().__init__()
        self.linear, self.conv = nn.Linear(2, 3), nn.Conv2d(2, 2, 3)
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm, self.wide_norm, self.group = nn.LayerNorm(3), nn.LayerNorm((2, 3)), nn.GroupNorm(1, 2)
        self.batch, self.root = nn.BatchNorm2d(2), nn.RMSNorm((2, 2))
        self.words, self.tied = nn.Embedding(5, 2), nn.Linear(2, 5, bias=False)
        self.tied.weight = self.words.weight
        self.null, self.tokens = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4, 3))
        self.pos_embed, self.logit_scale = nn.Parameter(torch.zeros(1, 4, 3)), nn.Parameter(torch.zeros(()))


def test_matrices_and_kernels_decay_and_nothing_else():
    expected = {"linear.weight", "conv.weight", "attention.in_proj_weight", "attention.out_proj.weight"}
    assert decayed_parameters(Everything()) == expected


def test_one_step_without_gradient_shrinks_the_decayed_ones_alone(make_stage, compute):
    stage = make_stage(weight_decay=0.5, warmup=0)
    before = {name: value.clone() for name, value in stage.modules["net"].named_parameters()}
    loop = StepLoop(stage, compute, 0)
    for weight in loop.parameters.values():
        weight.grad = torch.zeros_like(weight)
    loop.optimiser.step()
    for name, value in stage.modules["net"].named_parameters():
        factor = 1 - 0.05 * 0.5 if name.endswith("weight") else 1
        torch.testing.assert_close(value.detach(), factor * before[name])


def test_moments_go_on_after_a_file_whatever_the_memory_order_of_a_kernel():
    """The fused update walks through memory, and a file holds tensors in the order of their axes."""

    def started():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        parameters = dict(layer.named_parameters())
        return layer, make_optimiser(parameters, {"weight"}, training(), 1e-2)

    def step(layer, optimiser, number):
        image = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(number))
        layer(image).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    through, optimiser = started()
    for number in range(3):
        step(through, optimiser, number)
    file = {name: value.contiguous().clone() for name, value in moments(optimiser).items()}
    resumed, other = started()
    resumed.load_state_dict({name: value.contiguous() for name, value in through.state_dict().items()})
    load_moments(other, file)
    for number in range(3, 6):
        step(through, optimiser, number)
        step(resumed, other, number)
    assert torch.equal(through.weight, resumed.weight)
    assert torch.equal(through.bias, resumed.bias)
