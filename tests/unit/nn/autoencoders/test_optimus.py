"""The text autoencoder (method E8)."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from pydantic import ValidationError

from core.contract.modality import Autoencoder
from core.errors import MedWeaveWarning, UserError
from core.nn import Decoding, TextAutoencoderConfig
from core.nn.autoencoders.decoder import beam_search, draw_tokens, fused_scores, repeating_ids
from core.nn.autoencoders.optimus import (
    cyclical_beta,
    divergence_above,
    feature_divergence,
    latent_dropout,
    noisy_latents,
    token_losses,
)
from core.types import Batch, LatentSpec, Posterior

CONFIG = TextAutoencoderConfig(
    vocabulary=20, length=9, latent_width=6, width=16, depth=2, num_heads=2, decoder_width=12, decoder_depth=3
)


@pytest.fixture(params=["first", "mean"])
def pool(request):
    return request.param


def build(randomised, **changes):
    torch.manual_seed(0)
    return randomised(TextAutoencoderConfig(**{**CONFIG.model_dump(), **changes}).build())


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_for(size=3, seed=1):
    """Texts of 7, 4 and 2 tokens."""
    ids = torch.randint(3, 20, (3, 7), generator=draws(seed))
    ids[:, 0] = 1
    lengths = torch.tensor([[7], [4], [2]])
    ids[torch.arange(3), lengths[:, 0] - 1] = 2
    mask = torch.arange(7) < lengths
    return Batch(modality="thing", data=ids.masked_fill(~mask, 0), mask=mask)[:size]


def latents(size=5, seed=2):
    return 3 * torch.randn(size, 6, generator=draws(seed))


def test_it_implements_the_protocol_and_its_spec(randomised, pool):
    module = build(randomised, pool=pool)
    assert isinstance(module, Autoencoder)
    assert module.spec == LatentSpec(channels=6, space=())
    posterior = module.encode(batch_for())
    assert posterior.mean.shape == posterior.logvar.shape == (3, 6)


def test_padding_changes_nothing(randomised, pool):
    module, batch = build(randomised, pool=pool).eval(), batch_for()
    rubbish = Batch(modality="thing", data=batch.data.masked_fill(~batch.mask, 17), mask=batch.mask)
    longer = Batch(
        modality="thing",
        data=torch.nn.functional.pad(batch.data, (0, 2)),
        mask=torch.nn.functional.pad(batch.mask, (0, 2)),
    )
    for other in (rubbish, longer):
        torch.testing.assert_close(module.encode(other).mean, module.encode(batch).mean)
        for name, value in module.loss(batch, draws()).items():
            torch.testing.assert_close(module.loss(other, draws())[name], value)
    alone = Batch(modality="thing", data=batch.data[2:, :2])
    torch.testing.assert_close(module.encode(alone).mean, module.encode(batch).mean[2:])


def test_the_loss_is_the_sum_over_tokens_and_the_divergence(randomised):
    module, batch = build(randomised, beta=0.3, free_bits=0.2).eval(), batch_for()
    terms, posterior = module.loss(batch, draws(3)), module.encode(batch)
    latent = posterior.draw(draws(3))
    expected = 0.0
    for row, ids, mask in zip(latent, batch.data, batch.mask, strict=True):
        text = ids[mask][None]
        logits = module.decoder(text[:, :-1], row[None])
        expected += torch.nn.functional.cross_entropy(logits[0], text[0, 1:], reduction="sum") / 3
    torch.testing.assert_close(terms["reconstruction"], expected)
    torch.testing.assert_close(terms["kl"], 0.3 * divergence_above(posterior, 0.2).mean())


def test_golden_token_losses():
    """Two texts over three ids, by hand: a uniform guess costs log 3 a token, and padding costs nothing."""
    logits = torch.zeros(2, 2, 3)
    logits[0, 0, 1] = 2.0
    mask = torch.tensor([[True, True], [True, False]])
    found = token_losses(logits, torch.tensor([[1, 2], [0, 0]]), mask)
    first = torch.tensor(-2.0) + torch.tensor(2 + torch.e**2).log()
    third = torch.tensor(3.0).log()
    torch.testing.assert_close(found, torch.stack([first + third, third]))


def test_golden_divergence_with_free_bits():
    """Three features: mean 2 costs 2 nats, mean 1 costs 1/2, the prior itself nothing."""
    posterior = Posterior(mean=torch.tensor([[2.0, 1.0, 0.0]], requires_grad=True), logvar=torch.zeros(1, 3))
    torch.testing.assert_close(feature_divergence(posterior), torch.tensor([[2.0, 0.5, 0.0]]))
    torch.testing.assert_close(divergence_above(posterior, 0.0), torch.tensor([2.5]))
    found = divergence_above(posterior, 0.6)
    torch.testing.assert_close(found, torch.tensor([2 + 0.6 + 0.6]))
    found.sum().backward()
    assert posterior.mean.grad.tolist() == [[2.0, 0.0, 0.0]]


def test_golden_schedule():
    """Half of the cycle 0, a quarter up, the last quarter 1, and again."""
    found = cyclical_beta(torch.arange(16), 8)
    assert found.tolist() == 2 * [0, 0, 0, 0, 0, 0.5, 1, 1]
    assert cyclical_beta(torch.tensor(7), 0) == 1


def test_the_schedule_follows_training_and_is_saved(randomised):
    module, batch = build(randomised, cycle=4, beta=2.0), batch_for()
    state = None
    shares = []
    for step in range(6):
        if step == 3:
            state = copy.deepcopy(module.state_dict())
        divergence = divergence_above(module.encode(batch), CONFIG.free_bits).mean()
        shares.append(round((module.loss(batch, draws())["kl"] / divergence).item(), 4))
    assert shares == [0, 0, 0, 2, 0, 0]
    module.load_state_dict(state)
    assert int(module.steps) == 3
    assert module.loss(batch, draws())["kl"] > 0
    module.eval().loss(batch, draws())
    assert int(module.steps) == 4


def test_all_noise_comes_from_the_generator(randomised):
    module, batch = build(randomised, word_dropout=0.5), batch_for()
    before = torch.get_rng_state()
    losses = [module.loss(batch, draws(seed))["reconstruction"] for seed in (3, 3, 4)]
    module.decode(latents())
    assert torch.equal(before, torch.get_rng_state())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_word_dropout_hides_tokens_in_training_only(randomised):
    from core.nn.autoencoders.optimus import drop_tokens

    ids = torch.full((50, 100), 5)
    found = drop_tokens(ids, 0.3, draws())
    assert set(found.unique().tolist()) == {0, 5}
    assert (found[:, 0] == 5).all()
    assert abs(float((found == 0).float().mean()) - 0.3) < 0.02
    plain, dropping = build(randomised).eval(), build(randomised, word_dropout=0.9).eval()
    assert plain.loss(batch_for(), draws()) == dropping.loss(batch_for(), draws())


def test_gradients_reach_every_parameter(randomised, pool):
    module = build(randomised, pool=pool, beta=1.0, free_bits=0.0).double()
    sum(module.loss(batch_for(), draws()).values()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-12, name


def test_the_latent_enters_twice(randomised):
    """As one past key and value of every layer, and in every token's embedding."""
    module = build(randomised).eval()
    cache = module.decoder.memory(latents())
    assert [tuple(layer.keys.shape) for layer in cache.layers] == 3 * [(5, 2, 1, 6)]
    slices = module.decoder.to_memory(latents()).view(5, 3, 2, 6)
    for index, layer in enumerate(cache.layers):
        assert torch.equal(layer.keys, layer.values)
        assert torch.equal(layer.keys[:, :, 0], slices[:, index])
    ids = batch_for().data[:1].expand(5, -1)
    whole = module.decoder(ids, latents())
    for silenced in (module.decoder.to_memory, module.decoder.to_embedding):
        kept = silenced.weight.data.clone()
        silenced.weight.data.zero_()
        assert not torch.allclose(module.decoder(ids, latents()), whole, atol=1e-3)
        silenced.weight.data = kept


def test_step_by_step_is_all_at_once(randomised):
    module, ids, latent = build(randomised).eval(), batch_for().data, latents(3)
    cache = module.decoder.memory(latent)
    steps = [module.decoder.advance(ids[:, place : place + 1], latent, cache) for place in range(7)]
    torch.testing.assert_close(torch.cat(steps, 1), module.decoder(ids, latent))


def test_a_later_token_changes_no_earlier_token(randomised):
    module, ids, latent = build(randomised).eval(), batch_for().data, latents(3)
    changed = ids.clone()
    changed[:, 4:] = 5
    found, expected = module.decoder(changed, latent), module.decoder(ids, latent)
    torch.testing.assert_close(found[:, :4], expected[:, :4])
    assert not torch.allclose(found[:, 4:], expected[:, 4:])


def well_formed(batch):
    for ids, mask in zip(batch.data, batch.mask, strict=True):
        text = ids[mask].tolist()
        assert ids[~mask].eq(0).all()
        assert text[0] == 1
        assert text[-1] == 2
        assert all(2 < token < 20 for token in text[1:-1])
        assert len(text) <= 9


def test_greedy_decoding_takes_the_most_likely_id(randomised):
    module = build(randomised).eval()
    found = module.decode(latents())
    well_formed(found)
    assert found.modality == ""
    for latent, ids, mask in zip(latents(), found.data, found.mask, strict=True):
        text = ids[mask][None]
        scores = module.decoder(text[:, :-1], latent[None])[0]
        scores[:, :2] = -torch.inf
        free = slice(0, 7)  # the end token at the last place is not chosen but put there
        assert scores.argmax(-1)[free].tolist() == text[0, 1:][free].tolist()


@pytest.mark.parametrize(
    "how",
    [
        Decoding(),
        Decoding(top_k=5),
        Decoding(top_p=0.8, temperature=2.0),
        Decoding(beams=3),
        Decoding(no_repeat=2),
        Decoding(beams=3, no_repeat=1),
        Decoding(top_p=1.0, candidates=4),
        Decoding(beams=4, candidates=3),
        Decoding(beams=3, language=0.5),
        Decoding(top_p=0.9, candidates=2, language=0.5),
    ],
)
def test_decoded_text_does_not_depend_on_the_batch(randomised, how):
    module = build(randomised, latent_dropout=0.1).eval()
    generators = lambda *rows: [draws(row) for row in rows] if how.random else []  # noqa: E731
    together = module.decode(latents(), how, generators(*range(5)))
    well_formed(together)
    assert len({tuple(row) for row in together.data.tolist()}) > 1
    for row in range(5):
        alone = module.decode(latents()[row : row + 1], how, generators(row))
        assert alone.data[alone.mask].tolist() == together.data[row][together.mask[row]].tolist()


def test_draws_are_repeatable_and_varied(randomised):
    module, how = build(randomised).eval(), Decoding(top_p=0.95)
    written = [module.decode(latents(1), how, [draws(seed)]).data.tolist() for seed in (0, 0, *range(1, 9))]
    assert written[0] == written[1]
    assert len(set(map(str, written))) > 2
    greedy = module.decode(latents(1)).data.tolist()
    assert module.decode(latents(1), Decoding(top_k=1), [draws(7)]).data.tolist() == greedy


def test_golden_draws():
    """Chances 1/2, 1/4, 1/8, 1/8: how often each is drawn, and which are never."""
    scores = torch.tensor([[0.25, 0.5, 0.125, 0.125]]).log().expand(4000, -1)
    generators = [draws()] * 4000

    def shares(**how):
        return (torch.bincount(draw_tokens(scores, Decoding(**how), generators), minlength=4) / 4000).tolist()

    assert shares(top_k=2) == pytest.approx([1 / 3, 2 / 3, 0, 0], abs=0.03)
    assert shares(top_p=0.75) == pytest.approx([1 / 3, 2 / 3, 0, 0], abs=0.03)
    assert shares(top_p=0.76) == pytest.approx([2 / 7, 4 / 7, 1 / 7, 0], abs=0.03)
    assert shares(top_p=1.0) == pytest.approx([0.25, 0.5, 0.125, 0.125], abs=0.03)
    assert shares(top_k=2, temperature=0.5) == pytest.approx([0.2, 0.8, 0, 0], abs=0.03)


def likelihood(module, latent, text):
    scores = module.decoder(text[None, :-1], latent[None])[0]
    scores[:, :2] = -torch.inf
    return scores.log_softmax(-1).gather(1, text[1:, None]).sum().item()


def test_beam_search_returns_more_likely_texts(randomised):
    module, latent = build(randomised).eval(), latents(8)
    single, eight = (beam_search(module.decoder, latent, Decoding(beams=beams)) for beams in (1, 8))
    assert torch.equal(single, module.decode(latent).data)
    gains = []
    for row, one, many in zip(latent, single, eight, strict=True):
        gains.append(likelihood(module, row, many[many != 0]) - likelihood(module, row, one[one != 0]))
    assert max(gains) > 0
    assert sum(gains) > 0


def test_the_text_alone_counts_as_often_as_it_is_asked_to(randomised):
    """Every id is the best by the scores with the latent, and three times those without, of the whole text at once."""
    module, how = build(randomised, latent_dropout=0.1).eval(), Decoding(language=3.0)
    found = module.decode(latents(), how)
    for latent, ids, mask in zip(latents(), found.data, found.mask, strict=True):
        text = ids[mask][None]
        scores = [module.decoder(text[:, :-1], each[None])[0] for each in (latent, torch.zeros(6))]
        for each in scores:
            each[:, :2] = -torch.inf
        total = scores[0].log_softmax(-1) + 3 * scores[1].log_softmax(-1)
        assert total.argmax(-1)[:7].tolist() == text[0, 1:][:7].tolist()
    assert not torch.equal(found.data, module.decode(latents()).data)


def test_golden_fused_scores():
    """Chances 0.8 and 0.2 with the latent, 0.1 and 0.9 without: at weight 1 the second is better, 0.18 against 0.08."""
    found = fused_scores(torch.tensor([0.8, 0.2]).log(), torch.tensor([0.1, 0.9]).log(), 1.0)
    torch.testing.assert_close(found.exp(), torch.tensor([0.08, 0.18]))
    half = fused_scores(torch.tensor([0.8, 0.2]).log(), torch.tensor([0.25, 0.64]).log(), 0.5)
    torch.testing.assert_close(half.exp(), torch.tensor([0.4, 0.16]))


def test_beams_search_by_both_scores(randomised):
    """Eight beams find texts that are likelier by the sum of both scores than those of one beam."""
    module, latent, nothing = build(randomised).eval(), latents(8), torch.zeros(6)
    single, eight = (beam_search(module.decoder, latent, Decoding(beams=beams, language=1.0)) for beams in (1, 8))
    gains = []
    for row, *texts in zip(latent, single, eight, strict=True):
        one, many = (sum(likelihood(module, each, ids[ids != 0]) for each in (row, nothing)) for ids in texts)
        gains.append(many - one)
    assert max(gains) > 0
    assert sum(gains) > 0


def test_golden_repeats():
    """Which ids would complete a pair, and which a sequence of one or of three, for the second time."""
    ids = torch.tensor([[1, 5, 6, 5], [1, 7, 7, 8]])
    assert [set(row) - {0} for row in repeating_ids(ids, 1).tolist()] == [{1, 5, 6}, {1, 7, 8}]
    assert [set(row) - {0} for row in repeating_ids(ids, 2).tolist()] == [{6}, set()]
    assert repeating_ids(ids, 3).eq(0).all()
    assert [set(row) - {0} for row in repeating_ids(torch.tensor([[5, 6, 9, 5, 6]]), 3).tolist()] == [{9}]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_no_sequence_occurs_twice_where_none_may(randomised, length, beams):
    def repeats(how):
        written = build(randomised).eval().decode(latents(40), how)
        texts = [ids[mask].tolist() for ids, mask in zip(written.data, written.mask, strict=True)]
        runs = [[tuple(text[start : start + length]) for start in range(len(text) - length)] for text in texts]
        return sum(len(set(run)) < len(run) for run in runs)

    assert repeats(Decoding(beams=beams)) > 0
    assert repeats(Decoding(beams=beams, no_repeat=length)) == 0


@pytest.mark.parametrize("how", [{"top_p": 1.0, "temperature": 3.0}, {"beams": 6}])
def test_the_candidate_is_taken_whose_latent_is_nearest(randomised, how):
    """One of the texts that are written without a choice, and none of them is nearer."""
    module, wanted, num = build(randomised).eval(), latents(4), 6
    generators = [draws(row) for row in range(4)] if "top_p" in how else []
    if "beams" in how:
        written = beam_search(module.decoder, wanted, Decoding(candidates=num, **how)).view(4, num, -1)
    else:  # the candidates of a text take turns at its generator
        shared = [generator for generator in generators for _ in range(num)]
        written = module.decode(wanted.repeat_interleave(num, 0), Decoding(**how), shared).data.view(4, num, -1)
        generators = [draws(row) for row in range(4)]
    chosen = module.decode(wanted, Decoding(candidates=num, **how), generators)

    def gap(ids, latent):
        text = ids[ids != 0][None]
        return float((module.encode(Batch(modality="", data=text)).mean[0] - latent).square().sum().detach())

    for latent, texts, ids in zip(wanted, written, chosen.data, strict=True):
        gaps = [gap(text, latent) for text in texts]
        assert gap(ids, latent) == pytest.approx(min(gaps))
        assert max(gaps) > min(gaps)


def test_errors_on_latents_are_even_in_size_and_follow_the_text_s_latent():
    mean = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.3, 0.4, 0.0, 0.0]]).repeat(4000, 1)
    errors = noisy_latents(torch.zeros_like(mean), mean, 0.6, draws()).view(4000, 2, 4)
    # Root mean squares 2.5 and 0.25; a level that is even in [0, 0.6] has a mean square of 0.6² / 3.
    expected = torch.tensor([2.5, 0.25]) * 0.6 / 3**0.5
    torch.testing.assert_close(errors.square().mean((0, 2)).sqrt(), expected, rtol=0.05, atol=0)
    assert not torch.equal(errors[:, 0] / 2.5, errors[:, 1] / 0.25)


def test_the_decoder_learns_with_errors_and_the_encoder_is_measured_without(randomised):
    batch = batch_for()
    plain, noisy = build(randomised), build(randomised, latent_noise=2.0)
    losses = [module.loss(batch, draws(3)) for module in (plain, noisy)]
    assert losses[0]["kl"] == losses[1]["kl"]
    assert losses[0]["reconstruction"] != losses[1]["reconstruction"]
    assert plain.eval().loss(batch, draws(3)) == noisy.eval().loss(batch, draws(3))


def test_golden_latent_dropout():
    """From 1 to the least fraction over four steps, then constant; constant from the start without such steps."""
    assert latent_dropout(torch.arange(6), 0.2, 4).tolist() == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert latent_dropout(torch.arange(2), 0.2, 0).tolist() == pytest.approx([0.2, 0.2])
    assert latent_dropout(torch.arange(3), 0.0, 2).tolist() == [1, 0.5, 0]


def test_at_first_the_decoder_learns_to_write_without_a_latent(randomised):
    module, batch = build(randomised, language_share=0.4, beta=1.0), batch_for()
    module.set_num_losses(10)
    terms = module.loss(batch, draws())
    alone = module.decoder(batch.data[:, :-1], torch.zeros(3, 6))
    torch.testing.assert_close(
        terms["reconstruction"], token_losses(alone, batch.data[:, 1:], batch.mask[:, 1:]).mean()
    )
    assert terms["kl"] == 0
    sum(terms.values()).backward()
    assert all(weight.grad is None for weight in (*module.encoder.parameters(), *module.to_posterior.parameters()))
    module.steps.fill_(4)
    sum(module.loss(batch, draws()).values()).backward()
    assert module.to_posterior.weight.grad.abs().max() > 0


def test_each_text_without_latent_counts_as_written_alone(randomised):
    """The losses of a batch are the mean over its texts: with divergence where encoded, without a latent elsewhere."""
    module, batch = build(randomised, latent_dropout=0.6, free_bits=0.0), batch_for()
    # The first draws decide; the posterior's noise follows.
    encoded = torch.rand(3, generator=draws(2)) >= 0.6
    assert 0 < encoded.sum() < 3
    generator = draws(2)
    torch.rand(3, generator=generator)
    posterior = module.encode(batch)
    latent = posterior.draw(generator) * encoded[:, None]
    expected = token_losses(module.decoder(batch.data[:, :-1], latent), batch.data[:, 1:], batch.mask[:, 1:]).mean()
    terms = module.loss(batch, draws(2))
    torch.testing.assert_close(terms["reconstruction"], expected)
    torch.testing.assert_close(terms["kl"], (divergence_above(posterior, 0.0) * encoded).mean())
    plain = build(randomised).eval()
    assert module.eval().loss(batch, draws(2))["reconstruction"] == plain.loss(batch, draws(2))["reconstruction"]


def test_the_configuration_decides_how_a_text_is_written(randomised):
    how = Decoding(beams=3, no_repeat=1)
    module = build(randomised, decoding=how).eval()
    assert torch.equal(module.decode(latents()).data, build(randomised).eval().decode(latents(), how).data)
    assert not torch.equal(module.decode(latents()).data, module.decode(latents(), Decoding()).data)


def test_too_many_tokens_and_wrong_settings_give_a_single_line(randomised):
    module = build(randomised)
    with pytest.raises(UserError, match="at most 9 tokens, found 10"):
        module.encode(Batch(modality="thing", data=torch.ones(1, 10, dtype=torch.int64)))
    with pytest.raises(UserError, match="one generator per text: 5, found 1"):
        module.decode(latents(), Decoding(top_k=2), [draws()])
    with pytest.raises(UserError, match="choose one of them"):
        Decoding(top_k=2, beams=2)
    with pytest.raises(UserError, match=r"4 candidates need draws .* or as many beams, found beams 3"):
        Decoding(beams=3, candidates=4)
    with pytest.raises(UserError, match=r"TextAutoencoderConfig: .*multiples of 3 \(num_heads\)"):
        build(randomised, num_heads=3, decoder_heads=2)
    with pytest.raises(UserError, match=r"language 0\.5 needs a decoder that was trained without latents too"):
        module.decode(latents(), Decoding(language=0.5))
    with pytest.raises(UserError, match="set latent_dropout above 0 and train again"):
        build(randomised, decoding=Decoding(beams=2, language=0.5))
    with pytest.raises(UserError, match="cycle must be 0"):
        build(randomised, cycle=2)
    with pytest.raises(ValidationError):
        TextAutoencoderConfig(vocabulary=20, widht=3)


def test_training_reconstructs_its_texts():
    """Eight different texts, each of its own words, come back from the mean of their posterior."""
    torch.manual_seed(0)
    ids = torch.randint(3, 20, (8, 7), generator=draws(5))
    ids[:, 0], ids[:, -1] = 1, 2
    batch, generator = Batch(modality="thing", data=ids), draws()
    module = TextAutoencoderConfig(
        vocabulary=20, length=9, latent_width=16, width=32, depth=2, num_heads=2, pool="mean", beta=0.01
    ).build()
    optimizer = torch.optim.Adam(module.parameters(), 5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(module.loss(batch, generator).values()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    module.eval()
    found = module.decode(module.encode(batch).mean).data
    assert found.shape == ids.shape
    assert (found == ids).all(1).float().mean() > 0.9


# ------------------------------------------------------------------------------------------- weights from folders --


@pytest.fixture
def folders(tmp_path, randomised):
    """A BERT with all its heads and a GPT-2, as the library saves them; random weights, eleven and seventeen tokens."""
    from transformers import BertConfig, BertForPreTraining, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    bert = BertConfig(
        vocab_size=11,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=12,
    )
    gpt2 = GPT2Config(vocab_size=17, n_positions=12, n_embd=12, n_layer=3, n_head=2)
    randomised(BertForPreTraining(bert)).save_pretrained(tmp_path / "bert")
    randomised(GPT2LMHeadModel(gpt2)).save_pretrained(tmp_path / "gpt2")
    return tmp_path


def from_folders(folders, **changes):
    given = {"encoder_from": str(folders / "bert"), "decoder_from": str(folders / "gpt2"), **changes}
    return TextAutoencoderConfig(**{**CONFIG.model_dump(), **given}).build().eval()


def test_folders_give_the_library_s_networks(folders):
    from transformers import BertModel, GPT2LMHeadModel

    with pytest.warns(MedWeaveWarning, match="11 tokens, the vocabulary 20: token embeddings are learned anew"):
        module = from_folders(folders)
    bert = BertModel.from_pretrained(folders / "bert").eval()
    embedded = torch.randn(2, 5, 16, generator=draws())
    found = module.encoder(inputs_embeds=embedded).last_hidden_state
    torch.testing.assert_close(found, bert(inputs_embeds=embedded).last_hidden_state)
    gpt2 = GPT2LMHeadModel.from_pretrained(folders / "gpt2").eval()
    ids = torch.randint(0, 17, (2, 6), generator=draws())
    found = module.decoder.network(input_ids=ids + 3).logits[..., 3:]
    torch.testing.assert_close(found, gpt2(input_ids=ids).logits)


@pytest.mark.filterwarnings("ignore:.*learned anew")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 8, "decoder_width": 12}, "width is 8, but .* has 16"),
        ({"decoder_depth": 2}, "decoder_depth is 2, but .* has 3"),
        ({"length": 13}, "13 rows of .*position.* are needed, .* has 12"),
        ({"encoder_from": "nowhere"}, "'nowhere' needs config.json and model.safetensors of a bert"),
    ],
)
def test_folders_that_do_not_fit_give_a_single_line(folders, changes, message):
    with pytest.raises(UserError, match=message):
        from_folders(folders, **changes)


@pytest.mark.filterwarnings("ignore:.*learned anew")
def test_no_weight_is_left_out_in_silence(folders):
    from safetensors.torch import load_file, save_file

    about = json.loads((folders / "gpt2" / "config.json").read_text())
    with pytest.raises(UserError, match="kind of network is bert"):
        from_folders(folders, encoder_from=str(folders / "gpt2"))
    assert about["model_type"] == "gpt2"
    path = folders / "gpt2" / "model.safetensors"
    state = load_file(path)
    missing = next(name for name in state if name.endswith("h.1.mlp.c_fc.bias"))
    del state[missing]
    save_file(state, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"do not fit: h\.1\.mlp\.c_fc\.bias"):
        from_folders(folders)
