"""Given CLIP text encoders (method E1): what transformers and diffusers would compute from the same folder."""

import pytest
import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from core.errors import UserError
from core.nn import ClipTextEncoders
from core.types import Batch
from tests.unit.nn.prompts.clip_folder import LENGTH, write_encoder, write_tokenizer, write_two_encoders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_two_encoders(tmp_path_factory.mktemp("sdxl"))


def batch_of(*texts):
    """A batch whose ids are the bytes of the texts."""
    rows = [torch.tensor(list(text.encode()), dtype=torch.long) for text in texts]
    length = max(map(len, rows))
    data = torch.stack([torch.nn.functional.pad(row, (0, length - len(row))) for row in rows])
    mask = torch.arange(length) < torch.tensor([[len(row)] for row in rows])
    return Batch(modality="text", data=data, mask=mask)


def decode(ids):
    return bytes(ids.tolist()).decode()


def test_two_encoders_give_what_stable_diffusion_xl_reads(folder):
    """Tokens of the last but one layers side by side, and the projected vector of the second at unit norm."""
    encoder = ClipTextEncoders(str(folder), decode)
    assert (encoder.token_width, encoder.width) == (8 + 12, 10)
    result = encoder(batch_of("a cat", "no"))
    features, pooled = [], None
    for name, kind in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection)):
        tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{name}")
        ids = tokenizer(
            ["a cat", "no"], padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        output = kind.from_pretrained(folder / f"text_encoder{name}")(ids, output_hidden_states=True)
        features.append(output.hidden_states[-2])
        pooled = getattr(output, "text_embeds", None)
    torch.testing.assert_close(result.tokens, torch.cat(features, -1))
    torch.testing.assert_close(result.pooled, torch.nn.functional.normalize(pooled, dim=-1))
    assert result.mask.all()


def test_one_encoder_in_a_folder_of_its_own(tmp_path):
    tokens = write_tokenizer(tmp_path / "clip" / "tokenizer")
    write_encoder(tmp_path / "clip", CLIPTextModel, tokens, hidden_size=8)
    encoder = ClipTextEncoders(str(tmp_path / "clip"), decode)
    assert (encoder.token_width, encoder.width) == (8, 8)
    result = encoder(batch_of("a cat"))
    assert result.tokens.shape == (1, LENGTH, 8)
    torch.testing.assert_close(result.pooled.norm(dim=-1), torch.ones(1))


def test_a_long_text_is_encoded_in_pieces_and_nothing_is_lost(folder):
    encoder, long = ClipTextEncoders(str(folder), decode), "abcde fghij klmno pqrst"
    together = encoder(batch_of(long, "no"))
    assert together.tokens.shape[1] == 2 * LENGTH
    assert together.mask.sum(1).tolist() == [2 * LENGTH, LENGTH]
    alone = encoder(batch_of("no"))
    torch.testing.assert_close(together.tokens[1:, :LENGTH], alone.tokens)
    torch.testing.assert_close(together.pooled[1:], alone.pooled)
    changed = encoder(batch_of(long[:-1] + "z"))
    assert (changed.pooled - together.pooled[:1]).abs().max() > 1e-5, "the end of the text counts"


def test_an_empty_text_has_a_prompt(folder):
    assert torch.isfinite(ClipTextEncoders(str(folder), decode)(batch_of("", "a")).tokens).all()


def test_it_stays_frozen(folder):
    encoder = ClipTextEncoders(str(folder), decode).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_folder_without_encoders_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no text encoder; give a folder of a CLIP text model"):
        ClipTextEncoders(str(tmp_path), decode)
    with pytest.raises(UserError, match="is not a folder"):
        ClipTextEncoders(str(tmp_path / "none"), decode)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    write_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(UserError, match="init_from"):
        ClipTextEncoders(str(tmp_path), decode)
