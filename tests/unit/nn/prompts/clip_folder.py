"""Folders of CLIP text encoders in the layout of Stable Diffusion (XL), tiny and with random weights."""

import json

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

LENGTH = 12


def write_tokenizer(folder):
    """CLIP's byte tokenizer without merges: every character of a word is a token."""
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return len(words)


def write_encoder(folder, kind, tokens, **settings):
    config = CLIPTextConfig(
        vocab_size=tokens,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - 1,
        **settings,
    )
    torch.manual_seed(settings["hidden_size"])
    kind(config).eval().save_pretrained(folder, safe_serialization=True)


def write_two_encoders(folder):
    """The two text encoders of Stable Diffusion XL: tokens of 8 + 12 features, a pooled vector of 10."""
    for number, (name, kind) in enumerate((("", CLIPTextModel), ("_2", CLIPTextModelWithProjection))):
        tokens = write_tokenizer(folder / f"tokenizer{name}")
        write_encoder(folder / f"text_encoder{name}", kind, tokens, hidden_size=8 + 4 * number, projection_dim=10)
    return folder
