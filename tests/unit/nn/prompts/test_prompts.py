"""The prompt encoders (method E1)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from core.contract.modality import PromptEncoder, token_width
from core.errors import UserError
from core.nn import GridPromptEncoderConfig, TextPromptEncoderConfig
from core.types import Batch

PLANE = GridPromptEncoderConfig(channels=2, space=(8, 12), patch=4, width=16, depth=2, num_heads=2, prompt_width=10)
REGIONS = PLANE.model_copy(update={"space": (8, 16), "regions": 2})
VOLUME = PLANE.model_copy(update={"space": (4, 8, 8)})
TEXT = TextPromptEncoderConfig(vocabulary=30, length=9, width=16, depth=2, num_heads=2, prompt_width=10)


@pytest.fixture(params=[PLANE, REGIONS, VOLUME, TEXT], ids=["plane", "regions", "volume", "text"])
def config(request):
    return request.param


@pytest.fixture
def encoder(config, randomised):
    return build(config, randomised)


def build(config, randomised):
    torch.manual_seed(0)
    return randomised(config.build()).eval()


def batch_for(config, size=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    if isinstance(config, GridPromptEncoderConfig):
        return Batch(modality="thing", data=torch.randn(size, config.channels, *config.space, generator=generator))
    data = torch.randint(0, 30, (size, 7), generator=generator)
    return Batch(modality="thing", data=data, mask=torch.arange(7) < torch.tensor([[7], [4], [1]])[:size])


def test_it_implements_the_protocol(config, encoder):
    assert isinstance(encoder, PromptEncoder)
    assert (encoder.width, token_width(encoder)) == (10, 16)
    batch = batch_for(config)
    prompt = encoder(batch)
    length = 7 if config is TEXT else math.prod(config.cells)
    assert prompt.tokens.shape == (3, 1 + length, 16)
    assert prompt.pooled.shape == (3, 10)
    torch.testing.assert_close(prompt.pooled.norm(dim=-1), torch.ones(3))
    expected = torch.ones(3, length, dtype=torch.bool) if batch.mask is None else batch.mask
    assert prompt.mask.dtype == torch.bool
    assert prompt.mask[:, 0].all()
    assert torch.equal(prompt.mask[:, 1:], expected)


def test_token_0_is_constant_and_the_others_are_not(config, encoder):
    first, second = encoder(batch_for(config)), encoder(batch_for(config, seed=2))
    assert torch.equal(first.tokens[:, 0], second.tokens[:, 0])
    assert torch.equal(first.tokens[0, 0], first.tokens[1, 0])
    assert (first.tokens[:, 1:] - second.tokens[:, 1:]).abs().amax((1, 2)).min() > 1e-3
    assert (first.pooled - second.pooled).abs().amax(1).min() > 1e-3


def test_gradient_reaches_every_trainable_parameter(config, encoder):
    prompt = encoder(batch_for(config))
    generator = torch.Generator().manual_seed(9)
    tokens = torch.randn(prompt.tokens.shape, generator=generator)
    pooled = torch.randn(prompt.pooled.shape, generator=generator)
    ((prompt.tokens * tokens).sum() + (prompt.pooled * pooled).sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-6, name
    for part in ("tokens", "pooled"):  # each output alone trains the transformer, too
        encoder.zero_grad()
        weights = {"tokens": tokens, "pooled": pooled}[part]
        (getattr(encoder(batch_for(config)), part) * weights).sum().backward()
        assert next(encoder.network.parameters()).grad.abs().max() > 1e-6


def test_rows_may_come_in_any_order(config, encoder):
    batch, order = batch_for(config), torch.tensor([2, 0, 1])
    straight, turned = encoder(batch), encoder(batch[order])
    for part in ("tokens", "pooled"):
        torch.testing.assert_close(getattr(straight, part)[order], getattr(turned, part), rtol=1e-5, atol=1e-6)
    assert torch.equal(straight.mask[order], turned.mask)


def test_pooled_stays_on_the_sphere_under_autocast(config, encoder):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prompt = encoder(batch_for(config))
    torch.testing.assert_close(prompt.pooled.norm(dim=-1), torch.ones(3), rtol=1e-5, atol=1e-5)


def test_state_dict_round_trip(config, encoder):
    again = config.build().eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder(batch_for(config)).tokens, again(batch_for(config)).tokens)


@pytest.mark.parametrize("space", [(8, 16), (8, 8, 16)])
def test_regions_are_the_means_of_their_patches(space, randomised):
    config = PLANE.model_copy(update={"space": space, "regions": 2})
    encoder = build(config, randomised)
    asked = {}
    encoder.head.to_pooled.register_forward_pre_hook(lambda module, inputs: asked.update(summary=inputs[0]))
    prompt = encoder(batch_for(config))
    features = encoder._features(batch_for(config).data).unflatten(1, config.cells)
    halves = [[slice(0, cells // 2), slice(cells // 2, None)] for cells in config.cells]
    means = [features[(slice(None), *where)].flatten(1, -2).mean(1) for where in itertools.product(*halves)]
    expected = torch.cat([features.flatten(1, -2).mean(1), *means], dim=1)
    torch.testing.assert_close(asked["summary"], expected, rtol=1e-5, atol=1e-6)
    assert prompt.pooled.shape == (3, 10)


def test_ids_in_the_padding_do_not_matter(randomised):
    encoder, batch = build(TEXT, randomised), batch_for(TEXT)
    other = Batch(modality="", data=batch.data.masked_fill(~batch.mask, 29), mask=batch.mask)
    strange = Batch(modality="", data=batch.data.masked_fill(~batch.mask, -100), mask=batch.mask)
    first = encoder(batch)
    for again in (encoder(other), encoder(strange)):
        assert torch.equal(first.pooled, again.pooled)
        assert torch.equal(first.tokens[first.mask], again.tokens[first.mask])


def test_longer_padding_does_not_matter(randomised):
    encoder, batch = build(TEXT, randomised), batch_for(TEXT)
    longer = Batch(
        modality="",
        data=torch.nn.functional.pad(batch.data, (0, 2), value=5),
        mask=torch.nn.functional.pad(batch.mask, (0, 2), value=False),
    )
    first, again = encoder(batch), encoder(longer)
    torch.testing.assert_close(first.pooled, again.pooled, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first.tokens[first.mask], again.tokens[again.mask], rtol=1e-5, atol=1e-6)


def test_no_mask_means_all_count(randomised):
    encoder, batch = build(TEXT, randomised), batch_for(TEXT)
    ones = Batch(modality="", data=batch.data, mask=torch.ones_like(batch.mask))
    assert torch.equal(encoder(Batch(modality="", data=batch.data)).pooled, encoder(ones).pooled)


def test_an_empty_text_is_finite_and_the_same_whatever_is_in_its_padding(randomised):
    encoder = build(TEXT, randomised)
    mask = torch.zeros(2, 4, dtype=torch.bool)
    prompt = encoder(Batch(modality="", data=torch.tensor([[1, 2, 3, 4], [9, 8, 7, 6]]), mask=mask))
    assert torch.isfinite(prompt.tokens).all()
    assert torch.equal(prompt.pooled[0], prompt.pooled[1])
    assert prompt.mask.sum(1).tolist() == [1, 1]


def test_the_first_id_of_the_vocabulary_can_learn(randomised):
    encoder = build(TEXT, randomised)
    batch = Batch(modality="", data=torch.zeros(1, 3, dtype=torch.long))
    encoder(batch).tokens.square().sum().backward()
    assert encoder.network.embeddings.word_embeddings.weight.grad[0].abs().max() > 1e-6


def test_wrong_inputs_are_named(randomised):
    with pytest.raises(UserError, match="at most 9 tokens, found 10"):
        build(TEXT, randomised)(Batch(modality="", data=torch.zeros(1, 10, dtype=torch.long)))
    for config in (PLANE, VOLUME):
        with pytest.raises(UserError, match=r"takes data .* found \(1, 3, 3\)"):
            build(config, randomised)(Batch(modality="", data=torch.zeros(1, 1, 3, 3)))


WINDOWS = TEXT.model_copy(update={"length": 8, "windows": 3})  # 8 + 2 * 6 = 20 tokens


def long_batch(length, size=2, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return Batch(modality="thing", data=torch.randint(0, 30, (size, length), generator=generator))


def test_a_long_text_is_read_in_windows(randomised):
    encoder = build(WINDOWS, randomised)
    for length in (7, 8, 9, 14, 15, 20):
        prompt = encoder(long_batch(length))
        assert prompt.tokens.shape == (2, 1 + length, 16)
        torch.testing.assert_close(prompt.pooled.norm(dim=-1), torch.ones(2))
    with pytest.raises(UserError, match="at most 20 tokens, found 21; cut or split them, or raise windows"):
        encoder(long_batch(21))


def test_windows_change_nothing_for_a_text_that_fits_and_add_no_weights(randomised):
    one, several = build(WINDOWS.model_copy(update={"windows": 1}), randomised), build(WINDOWS, randomised)
    several.load_state_dict(one.state_dict(), strict=True)
    batch = long_batch(8)
    assert torch.equal(one(batch).tokens, several(batch).tokens)
    assert torch.equal(one(batch).pooled, several(batch).pooled)
    first, whole = several(batch), several(long_batch(20))
    assert first.tokens.shape != whole.tokens.shape


def test_every_token_is_seen_in_its_window_and_counts(randomised):
    encoder, batch = build(WINDOWS, randomised), long_batch(20)
    told = encoder(batch)
    start = encoder(Batch(modality="thing", data=batch.data[:, :8]))
    torch.testing.assert_close(told.tokens[:, :9], start.tokens)
    end = encoder(Batch(modality="thing", data=batch.data[:, 12:]))
    torch.testing.assert_close(told.tokens[:, -6:], end.tokens[:, -6:])
    for place in range(20):
        changed = batch.data.clone()
        changed[:, place] = (changed[:, place] + 1) % 30
        assert (encoder(Batch(modality="thing", data=changed)).pooled - told.pooled).abs().max() > 1e-5, place


def test_the_prompt_of_a_short_text_does_not_depend_on_a_long_text_in_its_batch(randomised):
    encoder, batch = build(WINDOWS, randomised), long_batch(20)
    mask = torch.arange(20) < torch.tensor([[20], [5]])
    together = encoder(Batch(modality="thing", data=batch.data, mask=mask))
    alone = encoder(Batch(modality="thing", data=batch.data[1:, :5]))
    torch.testing.assert_close(together.pooled[1:], alone.pooled)
    torch.testing.assert_close(together.tokens[1:, :6], alone.tokens)
    assert torch.isfinite(together.tokens).all()
    assert together.mask[1].sum() == 6


def test_all_windows_learn(randomised):
    encoder = build(WINDOWS, randomised)
    encoder(long_batch(20)).tokens[:, -1].sum().backward()
    assert encoder.network.embeddings.word_embeddings.weight.grad.abs().sum() > 0
