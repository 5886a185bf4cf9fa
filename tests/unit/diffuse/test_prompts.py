"""Several prompts in one conditioning: mixing, which tokens are visible, and the null prompt (E4, E6, E6b)."""

import pytest
import torch

from core.diffuse.prompts import CentredPromptEncoder, PromptAssembly, mixing_shares
from core.engine.rng import forked_rng
from core.errors import UserError
from core.types import Batch, Prompt

WIDTH, FEATURES = 6, 5
NONE, ALL = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)


def prompt(seed, rows=3, length=4, masked=0):
    draws = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[:, length - masked :] = False
    pooled = torch.nn.functional.normalize(torch.randn(rows, WIDTH, generator=draws), dim=-1)
    return Prompt(tokens=torch.randn(rows, length, FEATURES, generator=draws), pooled=pooled, mask=mask)


def new_assembly(**settings):
    with forked_rng(0):
        assembly = PromptAssembly(WIDTH, {"text": FEATURES, "image": FEATURES}, **settings)
    with torch.no_grad():
        assembly.null_pooled.normal_(generator=torch.Generator().manual_seed(5))
    return assembly


@pytest.fixture
def assembly():
    return new_assembly()


def test_order_mask_and_size(assembly):
    """The null token, then of every prompt its pooled vector and its tokens but for its own null token."""
    text, image = prompt(1, masked=1), prompt(2, length=3)
    result = assembly({"text": text, "image": image}, NONE)
    assert result.prompt.shape == (3, 1 + 4 + 3, WIDTH)
    assert torch.equal(result.prompt[:, 0], assembly.null.expand(3, -1))
    assert torch.equal(result.prompt[:, 1], text.pooled * WIDTH**0.5), "at the size of a token"
    assert torch.equal(result.prompt[:, 2:5], assembly.readers["from_text"](text.tokens[:, 1:]))
    assert torch.equal(result.prompt[:, 6:], assembly.readers["from_image"](image.tokens[:, 1:]))
    assert result.prompt_mask.tolist() == [[True, True, True, True, False, True, True, True]] * 3
    expected = (text.pooled + image.pooled) / 2 * WIDTH**0.5
    assert torch.allclose(result.pooled, expected), "mixed, and not normalised again (E4)"


@pytest.mark.parametrize("form", ["mixed_pooled", "pooled"])
def test_one_mixed_vector_is_the_only_token(form):
    """MedCoDi-M Eq. 1: c = sum of alpha_m h_m; a dropped row gets the null token in its place."""
    assembly, text, image = new_assembly(form=form), prompt(1), prompt(2)
    result = assembly({"text": text, "image": image}, torch.tensor([False, True, False]))
    expected = (text.pooled + image.pooled) / 2 * WIDTH**0.5
    assert result.prompt.shape == (3, 1, WIDTH)
    assert result.prompt_mask is None
    for row in (0, 2):
        assert torch.allclose(result.prompt[row, 0], expected[row])
        assert torch.equal(result.pooled[row], result.prompt[row, 0])
    assert torch.equal(result.prompt[1, 0], assembly.null)
    assert torch.equal(result.pooled[1], assembly.null_pooled)


@pytest.mark.parametrize("form", ["pooled_and_neighbour_tokens", "mixed_pooled"])
def test_weights_move_the_mixture(form):
    assembly, text, image = new_assembly(form=form), prompt(1), prompt(2)
    result = assembly({"text": text, "image": image}, NONE, weights={"text": 3.0})
    assert torch.allclose(result.pooled, (0.75 * text.pooled + 0.25 * image.pooled) * WIDTH**0.5)
    without = assembly({"text": text, "image": image}, NONE, weights={"image": 0.0})
    alone = assembly({"text": text}, NONE)
    assert torch.allclose(without.prompt, alone.prompt)
    assert torch.allclose(without.pooled, alone.pooled)
    equal = assembly({"text": text, "image": image}, NONE, weights={"text": 2.0, "image": 2.0})
    assert torch.allclose(equal.prompt, assembly({"text": text, "image": image}, NONE).prompt)
    null = assembly({"text": text}, NONE, weights={"text": 0.0})
    assert torch.equal(null.prompt, assembly({}, NONE).prompt)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_below_zero_is_refused(weight):
    with pytest.raises(UserError, match="weight of prompt 'text'"):
        mixing_shares(["text", "image"], {"text": weight})


def test_a_dropped_row_keeps_the_null_prompt_alone(assembly):
    drop = torch.tensor([False, True, False])
    result = assembly({"text": prompt(1)}, drop)
    kept = assembly({"text": prompt(1)}, NONE)
    assert result.prompt_mask[1].tolist() == [True, False, False, False, False]
    assert torch.equal(result.pooled[1], assembly.null_pooled)
    for row in (0, 2):
        assert result.prompt_mask[row].all()
        assert torch.equal(result.pooled[row], kept.pooled[row])


def test_no_prompt_is_the_null_prompt(assembly):
    """``{}`` says what a prompt that was dropped says."""
    empty, dropped = assembly({}, NONE), assembly({"text": prompt(1)}, ALL)
    assert empty.prompt.shape == (3, 1, WIDTH)
    assert torch.equal(empty.prompt, dropped.prompt[:, :1])
    assert empty.prompt_mask is None or empty.prompt_mask.all()
    assert torch.equal(empty.pooled, dropped.pooled)


def test_of_a_modality_without_joint_training_the_pooled_vector_is_read_alone(assembly):
    """Method E6b: its tokens, of whatever width, have no influence."""
    foreign = prompt(1)
    result = assembly({"ct": foreign, "text": prompt(2)}, NONE)
    assert result.prompt.shape == (3, 1 + 1 + 4, WIDTH)
    assert torch.equal(result.prompt[:, 1], foreign.pooled * WIDTH**0.5)
    other = Prompt(tokens=torch.randn(3, 9, 2), pooled=foreign.pooled, mask=torch.ones(3, 9, dtype=torch.bool))
    assert torch.equal(assembly({"ct": other, "text": prompt(2)}, NONE).prompt, result.prompt)


def test_pooled_only_rows_see_no_token(assembly):
    result = assembly({"text": prompt(1)}, NONE, torch.tensor([True, False, False]))
    assert result.prompt_mask.tolist() == [[True, True, False, False, False], [True] * 5, [True] * 5]


def test_a_modality_may_be_called_like_an_attribute_of_a_module():
    names = ("training", "keys", "forward", "parameters", "pop")
    assembly = PromptAssembly(WIDTH, dict.fromkeys(names, FEATURES))
    result = assembly({name: prompt(number) for number, name in enumerate(names)}, NONE)
    assert result.prompt.shape[1] == 1 + 4 * len(names)
    assembly.load_state_dict(PromptAssembly(WIDTH, dict.fromkeys(names, FEATURES)).state_dict())


def test_the_null_prompt_and_the_reading_of_tokens_are_trained(assembly):
    result = assembly({"text": prompt(1)}, torch.tensor([False, False, True]))
    (result.prompt.square().sum() + result.pooled.square().sum()).backward()
    trained = {name for name, value in assembly.named_parameters() if value.grad is not None and value.grad.any()}
    assert trained == {name for name, _ in assembly.named_parameters() if "from_image" not in name}


class Encoder(torch.nn.Module):
    """Returns its input as pooled vectors, with one token."""

    width, token_width = WIDTH, FEATURES

    def forward(self, batch):
        pooled = torch.nn.functional.normalize(batch.data, dim=-1)
        tokens = torch.zeros(len(batch), 2, FEATURES)
        return Prompt(tokens=tokens, pooled=pooled, mask=torch.ones(len(batch), 2, dtype=torch.bool))


def test_the_mean_of_a_modality_is_removed():
    """Method E6b: what all prompts of a modality have in common does not reach a denoiser."""
    draws = torch.Generator().manual_seed(0)
    data = torch.randn(200, WIDTH, generator=draws) + torch.tensor([9.0, 0, 0, 0, 0, 0])
    batch = Batch(modality="text", data=data)
    raw = Encoder()(batch).pooled
    centred = CentredPromptEncoder(Encoder(), raw.mean(0).tolist())
    result = centred(batch).pooled
    assert (centred.width, centred.token_width) == (WIDTH, FEATURES)
    assert raw.mean(0).norm() > 0.9
    assert result.mean(0).norm() < 0.2
    assert torch.allclose(result.norm(dim=-1), torch.ones(200))
    expected = raw - raw.mean(0)
    assert torch.allclose(result * expected.norm(dim=-1, keepdim=True), expected, atol=1e-6)


def test_without_a_recorded_mean_a_prompt_stays_as_it_is():
    batch = Batch(modality="text", data=torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(CentredPromptEncoder(Encoder(), ())(batch).pooled, Encoder()(batch).pooled)


# Forms of the papers -------------------------------------------------------------------------------------------------
def test_tokens_pooled_and_size_pass_as_they_are_where_the_widths_agree():
    """MediSyn, as Stable Diffusion XL: a pretrained denoiser reads its encoders' tokens, the first one too."""
    with forked_rng(0):
        assembly = PromptAssembly(
            FEATURES, {"text": FEATURES}, "tokens_pooled_size", shared_width=WIDTH, empty={"text": prompt(9, rows=1)}
        )
    assert not list(assembly.parameters())
    text, empty = prompt(1, masked=2), prompt(9, rows=1)
    result = assembly({"text": text}, torch.tensor([False, True, False]))
    assert torch.equal(result.prompt[0], text.tokens[0])
    assert result.prompt_mask[0].tolist() == [True, True, False, False]
    assert torch.equal(result.prompt[1], empty.tokens[0]), "the null prompt is an empty text"
    assert torch.allclose(result.pooled[0], text.pooled[0] * WIDTH**0.5)
    assert torch.allclose(result.pooled[1], empty.pooled[0] * WIDTH**0.5)


def test_widths_of_encoder_tokens_pooled_vector_and_denoiser_may_all_differ():
    with forked_rng(0):
        assembly = PromptAssembly(8, {"text": FEATURES}, "tokens_pooled_size", shared_width=WIDTH, pooled_width=3)
    result = assembly({"text": prompt(1)}, NONE)
    assert result.prompt.shape == (3, 1 + 4, 8)
    assert result.pooled.shape == (3, 3)
    assert assembly({}, NONE).pooled.shape == (3, 3)


@pytest.mark.parametrize("form", ["pooled_and_neighbour_tokens", "mixed_pooled"])
def test_an_empty_input_of_each_prompting_modality_is_the_null_prompt(form):
    """MedCoDi-M, CoDi_XR: dropping a prompt of text and image gives what their empty inputs give."""
    empty = {"text": prompt(8, rows=1, length=2), "image": prompt(9, rows=1)}
    assembly, text, image = new_assembly_with(empty, form), prompt(1), prompt(2)
    dropped = assembly({"text": text, "image": image}, ALL)
    of_empty = {
        name: Prompt(
            tokens=each.tokens.expand(3, -1, -1), pooled=each.pooled.expand(3, -1), mask=each.mask.expand(3, -1)
        )
        for name, each in empty.items()
    }
    expected = assembly(of_empty, NONE)
    assert torch.allclose(dropped.pooled, expected.pooled)
    length = expected.prompt.shape[1]
    assert torch.allclose(dropped.prompt[:, :length], expected.prompt)
    if dropped.prompt_mask is not None:
        assert not dropped.prompt_mask[:, length:].any()
    assert torch.allclose(assembly({}, NONE).pooled, expected.pooled), "without prompts, all of them"
    alone = assembly({"text": text}, ALL)
    assert torch.allclose(alone.pooled, empty["text"].pooled.expand(3, -1) * WIDTH**0.5)


def new_assembly_with(empty, form):
    with forked_rng(0):
        return PromptAssembly(WIDTH, {"text": FEATURES, "image": FEATURES}, form, empty=empty)


@pytest.mark.parametrize("form", ["pooled_and_neighbour_tokens", "mixed_pooled", "tokens_pooled_size"])
def test_a_denoiser_of_several_modalities_is_given_the_one_to_generate(form):
    """Whatever is prompted, and with the null prompt too: a report does not name the image it goes with."""
    assembly = new_assembly(form=form, typed=True)
    for prompts in ({}, {"text": prompt(1)}):
        for drop in (NONE, ALL):
            result = assembly(prompts, drop)
            assert torch.equal(result.prompt[:, -1], assembly.type_token.expand(3, -1))
            assert result.prompt_mask is None or result.prompt_mask[:, -1].all()
    plain = assembly.null_pooled + assembly.type_pooled
    assert torch.equal(assembly({}, NONE).pooled, plain.expand(3, -1))
