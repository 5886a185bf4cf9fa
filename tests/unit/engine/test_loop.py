"""The step loop: closed forms, accumulation, precision, and the guard against numbers that are not finite."""

import dataclasses
import math

import pytest
import torch

from core.engine.loop import StepLoop
from core.engine.optimiser import MovingAverage, schedule
from core.errors import UserError


def test_schedule_is_linear_then_cosine():
    assert [schedule(step, 100, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule(4, 100, 4) == 1.0
    assert schedule(52, 100, 4) == pytest.approx(0.5)
    assert schedule(76, 100, 4) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.75)))
    assert schedule(99, 100, 4) < 0.001
    assert schedule(0, 100, 0) == 1.0


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_moving_average_is_the_weighted_sum(decay):
    weight = torch.nn.Parameter(torch.zeros(3))
    average, expected = MovingAverage({"w": weight}, decay), 0.0
    for step in range(30):
        value = math.sin(step)
        with torch.no_grad():
            weight.fill_(value)
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    assert torch.allclose(average.average["w"], torch.full((3,), expected), atol=1e-6)
    average.copy_to_model()
    assert torch.equal(weight.detach(), average.average["w"])


def test_it_learns_and_leaves_the_average(make_stage, make_trainer):
    stage = make_stage(60, ema=0.9)
    losses = make_trainer().run(stage)
    assert len(losses) == 60
    assert losses[-1] < 0.5 * losses[0]
    assert not stage.modules["net"].training


@pytest.mark.parametrize("parts", [2, 3, 10])
def test_accumulation_gives_the_gradients_of_the_whole_batch(make_stage, compute, parts):
    """Also where the batch of 10 does not divide evenly."""
    found = []
    for accumulate in (1, parts):
        stage = make_stage(spoil="no dropout", accumulate=accumulate)
        loop = StepLoop(stage, compute, 0)
        terms, _ = loop.gradients(0)
        found.append((terms["fit"], [weight.grad for weight in loop.parameters.values()]))
    assert float(found[0][0]) == pytest.approx(float(found[1][0]), rel=1e-6)
    for whole, parted in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(whole, parted, atol=1e-6)


def test_what_cannot_be_accumulated_says_so(make_stage, compute):
    stage = dataclasses.replace(make_stage(accumulate=2), whole=True)
    with pytest.raises(UserError, match=r"cannot accumulate gradients; set training\.align\.accumulate=1"):
        StepLoop(stage, compute, 0).gradients(0)


def test_an_empty_shard_is_refused(make_stage, compute):
    with pytest.raises(UserError, match="a batch of 10 cannot be divided among 11"):
        StepLoop(make_stage(accumulate=11), compute, 0).gradients(0)


def test_gradients_are_clipped(make_stage, compute):
    loop = StepLoop(make_stage(clip=0.01), compute, 0)
    loop.advance()
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in loop.parameters.values()])
    assert float(norm) == pytest.approx(0.01, rel=1e-3)
    assert loop.row["gradient_norm"] > 0.1, "the log shows the norm before clipping"


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [("term", "the loss 'size' is nan"), ("gradient", r"the gradient of 'net\.3\.bias' is not finite")],
)
def test_the_first_number_that_is_not_finite_is_named_with_its_step(make_stage, make_trainer, spoil, cause):
    with pytest.raises(UserError, match=f"align 1 a-b: {cause} at step 3"):
        make_trainer().run(make_stage(spoil=spoil))


def test_bf16_keeps_float32_weights_and_learns(make_stage, make_trainer):
    seen = []
    stage = make_stage(60, precision="bf16")
    stage.modules["net"][0].register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    losses = make_trainer().run(stage)
    assert set(seen) == {torch.bfloat16}
    assert {weight.dtype for weight in stage.modules["net"].parameters()} == {torch.float32}
    assert losses[-1] < 0.5 * losses[0]


def test_nothing_to_train_is_an_error(make_stage, compute):
    stage = make_stage()
    stage.modules["net"].requires_grad_(False)
    with pytest.raises(UserError, match="nothing to train"):
        StepLoop(stage, compute, 0)


def test_frozen_weights_and_unreached_ones_stay(make_stage, compute):
    stage = make_stage()
    stage.modules["net"][0].weight.requires_grad_(False)
    before = stage.modules["net"][0].weight.clone()
    loop = StepLoop(stage, compute, 0)
    loop.advance()
    assert torch.equal(stage.modules["net"][0].weight, before)
    assert "net.0.weight" not in loop.parameters


def test_statistics_are_averaged_with_the_weights_they_belong_to(make_stage, compute):
    """Running statistics go through the average of the weights; counts stay those of the last step."""
    stage = make_stage(9, ema=0.6)
    stage.modules["net"][2] = torch.nn.BatchNorm1d(8)
    loop = StepLoop(stage, compute, 0)
    norm, expected = stage.modules["net"][2], torch.zeros(8)
    for step in range(9):
        loop.advance()
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * norm.running_mean
    last = norm.running_mean.clone()
    loop.finish()
    torch.testing.assert_close(norm.running_mean, expected)
    assert not torch.allclose(norm.running_mean, last)
    assert norm.num_batches_tracked == 9


def test_averaged_statistics_resume(make_stage, compute, tmp_path):
    def loop_of(steps):
        stage = make_stage(9, ema=0.6)
        stage.modules["net"][2] = torch.nn.BatchNorm1d(8)
        loop = StepLoop(stage, compute, 0)
        for _ in range(steps):
            loop.advance()
        return loop

    whole, resumed = loop_of(9), loop_of(0)
    resumed.restore({name: value.clone() for name, value in loop_of(4).state().items()}, tmp_path)
    while resumed.step < 9:
        resumed.advance()
    first, second = whole.state(), resumed.state()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
