"""Reports that are too long: the part that fits ends with a sentence, and what is cut is counted."""

import numpy as np
import pytest

from core.types import Sample
from plugins.text.modality import TEXT

SENTENCES = ["No focal consolidation.", "The heart is enlarged.", "There is no pneumothorax or pleural effusion."]


@pytest.fixture(scope="module")
def config():
    return TEXT.parts("tiny").preprocess.model_copy(update={"length": 36})


def report(words):
    return Sample(modality="text", data=words, meta={"path": "a.txt"})


def test_the_part_that_fits_ends_with_a_sentence(config):
    whole = " ".join(SENTENCES * 8)
    tokens = config.build()
    canonical = tokens.apply(report(whole))
    written = tokens.invert(canonical).data
    assert whole.startswith(written)
    assert written.endswith(".")
    assert 20 <= len(canonical.data) <= 36
    all_ids = config.model_copy(update={"length": 4000}).build().apply(report(whole))
    assert canonical.meta["cut_tokens"] == len(all_ids.data) - len(canonical.data) > 0
    assert canonical.meta["path"] == "a.txt"


def test_a_text_may_be_cut_between_characters(config):
    whole, written = " ".join(SENTENCES * 8), []
    for length in range(30, 40):
        tokens = config.model_copy(update={"cut": "character", "length": length}).build()
        canonical = tokens.apply(report(whole))
        assert len(canonical.data) == length
        written.append(tokens.invert(canonical).data)
    assert sum(text.endswith(".") for text in written) < 5


def test_a_text_without_sentences_is_cut_between_characters(config):
    canonical = config.build().apply(report("opacity " * 100))
    assert len(canonical.data) == 36
    assert canonical.meta["cut_tokens"] > 0


@pytest.mark.parametrize("words", ["", "Normal.", SENTENCES[2]])
def test_a_text_that_fits_is_whole(config, words):
    tokens = config.build()
    canonical = tokens.apply(report(words))
    assert tokens.invert(canonical).data == words
    assert canonical.meta["cut_tokens"] == 0
    assert tokens.apply(canonical) is canonical
    (part,) = tokens.split(report(words))
    assert np.array_equal(part.data, canonical.data)


def test_a_long_prompt_is_read_whole_in_windows():
    """Nothing is cut, and its last word has an effect."""
    import torch

    from core.preprocess.collate import collate

    parts = TEXT.parts("tiny")
    tokens = parts.preprocess.model_copy(update={"length": 400})
    torch.manual_seed(0)
    encoder = parts.prompt.model_copy(update={"windows": 4}).build().eval()
    whole = " ".join(SENTENCES * 16)
    samples = [tokens.build().apply(report(words)) for words in (whole, whole[:-1] + " on the left.", SENTENCES[0])]
    assert all(sample.meta["cut_tokens"] == 0 for sample in samples)
    assert len(samples[0].data) > 2 * 128
    with torch.no_grad():
        prompt = encoder(collate(samples, tokens.spec))
    assert prompt.tokens.shape[1] == 1 + max(len(sample.data) for sample in samples)
    assert (prompt.pooled[0] - prompt.pooled[1]).abs().max() > 1e-5
