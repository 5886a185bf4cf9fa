"""A batch that processes or accumulated parts share gives the loss and the gradients of the whole (method E13)."""

import pytest
import torch

from core.config.recipe import GuideChoice
from core.engine.distributed import BatchShard
from core.engine.rng import make_generator
from core.guide.losses import BatchRows, ContextContrast, SelfReconstructionHead
from core.guide.noisy_study import guide_losses

SIZE = 7
CHOICE = GuideChoice(context="spatial", adaptation=True, levels="independent", clean=0.3, partner_drop=0.3)


@pytest.fixture
def flows(new_flow):
    made = {name: new_flow(name, SIZE, choice=CHOICE) for name in ("vector", "grid")}
    for flow in made.values():
        flow.attach()
        for parameter in flow.sites.parameters():  # away from the zero that they start at
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(3))
    return made


def gradients(flows, shard: BatchShard, choice=CHOICE, contrast=None, equal=None, head=None):
    parameters = [
        p for flow in flows.values() for part in (flow.sites, flow.context_encoder) for p in part.parameters()
    ]
    rows = shard.rows(SIZE)
    states = {name: flow.state(rows) for name, flow in flows.items()}
    batch_rows = BatchRows(size=SIZE, shard=shard, equal=equal)
    terms = guide_losses(states, make_generator(0, "shares"), choice, contrast, batch_rows, head)
    loss = torch.stack(list(terms.values())).sum()
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return loss.detach(), [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("describes", [False, True])
def test_the_mean_over_the_shares_is_the_whole_batch(flows, count, describes):
    choice = CHOICE.model_copy(update={"description": describes})
    torch.manual_seed(8)
    head = SelfReconstructionHead({name: flow.context_encoder for name, flow in flows.items()}) if describes else None
    whole, expected = gradients(flows, BatchShard(), choice, head=head)
    parts = [gradients(flows, BatchShard(index, count), choice, head=head) for index in range(count)]
    assert torch.allclose(torch.stack([loss for loss, _ in parts]).mean(), whole, atol=1e-6)
    assert any(one.abs().max() > 1e-3 for one in expected)
    for number, one in enumerate(expected):
        mean = torch.stack([found[number] for _, found in parts]).mean(0)
        assert torch.allclose(mean, one, atol=1e-6), number


def test_equal_studies_are_no_negatives_of_each_other(new_flow):
    choice = CHOICE.model_copy(update={"contrast": True})
    flows = {name: new_flow(name, SIZE, choice=choice) for name in ("vector", "grid")}
    for flow in flows.values():
        flow.attach()
    contrast = ContextContrast()
    everyone = torch.ones(SIZE, SIZE, dtype=torch.bool)
    free, _ = gradients(flows, BatchShard(), choice, contrast)
    masked, _ = gradients(flows, BatchShard(), choice, contrast, everyone)
    assert masked < free - 1, "without a negative, the contrast is 0"
