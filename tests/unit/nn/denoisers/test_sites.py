"""Every kind of network with context attention at its sites."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from core.errors import UserError


def test_a_fresh_context_attention_leaves_the_output_bit_equal(kind, new_conditioning, attach_fresh, width_of):
    network, sites = kind.ready()
    conditioning = new_conditioning()
    before = kind.run(network, kind.noisy(), replace(conditioning, context=None))
    attach_fresh(sites, width_of)
    assert len(sites) >= 2
    assert torch.equal(before, kind.run(network, kind.noisy(), conditioning))


def test_installing_sites_leaves_the_output_bit_equal(kind, new_conditioning):
    network = kind.make()
    network.load_state_dict(kind.ready()[0].state_dict())
    conditioning = replace(new_conditioning(), context=None, prompt_mask=None)
    plain = conditioning.prompt if kind.name.startswith("monai") else conditioning
    before = kind.run(network, kind.noisy(), plain)
    kind.offer(network)
    assert before.abs().mean() > 1e-3
    assert torch.equal(before, kind.run(network, kind.noisy(), conditioning))


def test_a_trained_context_attention_makes_the_context_count(
    kind, new_conditioning, new_context, attach_fresh, width_of
):
    network, sites = kind.ready()
    attach_fresh(sites, width_of, trained=True)
    conditioning = new_conditioning()
    first = kind.run(network, kind.noisy(), conditioning)
    other = kind.run(network, kind.noisy(), replace(conditioning, context=new_context(99)))
    without = kind.run(network, kind.noisy(), replace(conditioning, context=None))
    assert (first - other).abs().max() > 1e-4
    assert (first - without).abs().max() > 1e-4


def test_each_single_site_counts(kind, new_conditioning, new_context, attach_fresh, width_of):
    names = list(kind.ready()[1])
    for name in names:
        network, sites = kind.ready()
        attach_fresh({name: sites[name]}, width_of, trained=True)
        conditioning = new_conditioning()
        first = kind.run(network, kind.noisy(), conditioning)
        other = kind.run(network, kind.noisy(), replace(conditioning, context=new_context(99)))
        assert (first - other).abs().max() > 1e-6, name


def test_masked_tokens_of_prompt_and_context_have_no_influence(kind, new_conditioning, attach_fresh, width_of):
    network, sites = kind.ready()
    attach_fresh(sites, width_of, trained=True)
    conditioning = new_conditioning()
    before = kind.run(network, kind.noisy(), conditioning)
    prompt, tokens = conditioning.prompt.clone(), conditioning.context.tokens.clone()
    prompt[:, 3:] += 10
    tokens[:, 3:] += 10
    masked = replace(conditioning, prompt=prompt, context=replace(conditioning.context, tokens=tokens))
    assert torch.equal(before, kind.run(network, kind.noisy(), masked))
    prompt[:, 2] += 10
    assert (before - kind.run(network, kind.noisy(), masked)).abs().max() > 1e-4


def test_a_mask_of_column_0_only_is_a_prompt_of_a_single_token(kind, new_conditioning, attach_fresh, width_of):
    network, sites = kind.ready()
    attach_fresh(sites, width_of, trained=True)
    full = new_conditioning()
    only = torch.zeros_like(full.prompt_mask)
    only[:, 0] = True
    context = replace(full.context, mask=only)
    cut = replace(full, prompt=full.prompt[:, :1], prompt_mask=None)
    cut = replace(cut, context=replace(context, tokens=context.tokens[:, :1], mask=only[:, :1]))
    masked = kind.run(network, kind.noisy(), replace(full, prompt_mask=only, context=context))
    torch.testing.assert_close(masked, kind.run(network, kind.noisy(), cut), rtol=1e-4, atol=1e-5)


def test_the_state_dict_of_the_untouched_network_loads_strictly(kind):
    original = kind.make()
    network, _ = kind.ready(seed=5, checkpointed=True)
    assert list(network.state_dict()) == list(original.state_dict())
    network.load_state_dict(original.state_dict(), strict=True)
    for name, value in original.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_attaching_adds_exactly_the_listed_parameters(kind, attach_fresh, width_of):
    network, sites = kind.ready()
    before = dict(network.named_parameters())
    modules = attach_fresh(sites, width_of)
    after = dict(network.named_parameters())
    listed = {
        f"{path}.context_attention.{name}"
        for (path, module) in zip(sites, modules, strict=True)
        for name, _ in module.named_parameters()
    }
    assert set(after) - set(before) == listed
    assert all(after[name] is parameter for name, parameter in before.items())
    found = network.load_state_dict(kind.make().state_dict(), strict=False)
    assert set(found.missing_keys) == listed
    assert not found.unexpected_keys


def test_a_site_takes_a_single_module(kind, attach_fresh, width_of):
    _, sites = kind.ready()
    attach_fresh(sites, width_of)
    for name, site in sites.items():
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            site.attach(nn.Identity())


def test_reclassing_shares_the_parameters(kind):
    network = kind.make()
    before = dict(network.named_parameters())
    kind.offer(network, True)
    after = dict(network.named_parameters())
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)


def _gradients(kind, conditioning, attach_fresh, width_of, checkpointed):
    """All gradients of a training step in float64, and how many numbers autograd kept for it."""
    network, sites = kind.ready(checkpointed=checkpointed)
    attach_fresh(sites, width_of, trained=True)
    network.double().train()
    prompt = conditioning.prompt.double().requires_grad_()
    tokens = conditioning.context.tokens.double().requires_grad_()
    context = replace(conditioning.context, tokens=tokens)
    kept = 0

    def keep(value):
        nonlocal kept
        kept += value.numel()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        output = kind.run(network, kind.noisy().double(), replace(conditioning, prompt=prompt, context=context))
    output.square().sum().backward()
    named = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {**named, "prompt": prompt.grad, "context": tokens.grad}, kept


def test_gradient_checkpointing_gives_equal_gradients_and_keeps_less(kind, new_conditioning, attach_fresh, width_of):
    plain, kept = _gradients(kind, new_conditioning(), attach_fresh, width_of, False)
    again, kept_again = _gradients(kind, new_conditioning(), attach_fresh, width_of, True)
    assert kept_again < 0.7 * kept
    assert plain["context"].abs().max() > 1e-4
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(gradient, again[name], rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_checkpointing_runs_every_site_a_second_time(kind, new_conditioning, checkpointed):
    runs = {}

    class Counter(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, hidden, context):
            runs[self.name] = runs.get(self.name, 0) + 1
            return hidden * context.tokens.mean()

    network, sites = kind.ready(checkpointed=checkpointed)
    for name, site in sites.items():
        site.attach(Counter(name))
    conditioning = new_conditioning()
    with torch.no_grad():
        kind.run(network, kind.noisy(), conditioning)
    assert set(runs.values()) == {1}
    runs.clear()
    kind.run(network.train(), kind.noisy(), conditioning).sum().backward()
    assert runs == dict.fromkeys(sites, 2 if checkpointed else 1)


def test_every_attached_parameter_gets_a_gradient(kind, new_conditioning, attach_fresh, width_of):
    gradients, _ = _gradients(kind, new_conditioning(), attach_fresh, width_of, True)
    attached = {name: gradient for name, gradient in gradients.items() if "context_attention" in name}
    assert attached
    assert all(gradient.abs().max() > 0 for gradient in attached.values())


def test_samples_of_a_batch_are_independent(kind, new_conditioning, new_context, attach_fresh, width_of):
    network, sites = kind.ready()
    attach_fresh(sites, width_of, trained=True)
    one, two = new_conditioning(2), new_conditioning(50)
    noisy, other = kind.noisy(), kind.noisy(seed=60)
    noisy_mixed = torch.cat([noisy[:1], other[1:]])
    context = replace(one.context, tokens=torch.cat([one.context.tokens[:1], two.context.tokens[1:]]))
    mixed = replace(one, prompt=torch.cat([one.prompt[:1], two.prompt[1:]]), context=context)
    first, second = kind.run(network, noisy, one), kind.run(network, noisy_mixed, mixed)
    torch.testing.assert_close(first[0], second[0], rtol=1e-5, atol=1e-6)
    assert (first[1] - second[1]).abs().max() > 1e-3


def test_all_kinds_run_under_autocast(kind, new_conditioning, attach_fresh, width_of):
    network, sites = kind.ready()
    attach_fresh(sites, width_of, trained=True)
    conditioning = new_conditioning()
    exact = kind.run(network, kind.noisy(), conditioning)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = kind.run(network, kind.noisy(), conditioning)
    assert torch.isfinite(rough).all()
    assert (exact - rough.float()).abs().mean() < 0.1 * exact.abs().mean()


def test_a_network_with_sites_can_be_copied_and_pickled(kind, new_conditioning, attach_fresh, width_of):
    import copy
    import pickle

    network, sites = kind.ready()
    attach_fresh(sites, width_of, trained=True)
    conditioning = new_conditioning()
    before = kind.run(network, kind.noisy(), conditioning)
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(before, kind.run(again, kind.noisy(), conditioning))


def test_attach_at_names_the_nearest_site(diffusers_kind):
    from core.nn import attach_at

    _, sites = diffusers_kind.ready()
    with pytest.raises(UserError, match="did you mean"):
        attach_at(sites, next(iter(sites)) + "x", nn.Identity())
