"""Reports that are too long: what is kept ends with a sentence, and what is cut is counted."""

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


def test_what_is_kept_ends_with_a_sentence(config):
    whole = " ".join(SENTENCES * 8)
    tokens = config.build()
    found = tokens.apply(report(whole))
    written = tokens.invert(found).data
    assert whole.startswith(written)
    assert written.endswith(".")
    assert 20 <= len(found.data) <= 36
    all_ids = config.model_copy(update={"length": 4000}).build().apply(report(whole))
    assert found.meta["cut_tokens"] == len(all_ids.data) - len(found.data) > 0
    assert found.meta["path"] == "a.txt"


def test_the_old_cut_is_still_to_be_had(config):
    whole, written = " ".join(SENTENCES * 8), []
    for length in range(30, 40):
        tokens = config.model_copy(update={"cut": "character", "length": length}).build()
        found = tokens.apply(report(whole))
        assert len(found.data) == length
        written.append(tokens.invert(found).data)
    assert sum(one.endswith(".") for one in written) < 5


def test_a_text_without_sentences_is_cut_between_characters(config):
    found = config.build().apply(report("opacity " * 100))
    assert len(found.data) == 36
    assert found.meta["cut_tokens"] > 0


@pytest.mark.parametrize("words", ["", "Normal.", SENTENCES[2]])
def test_a_text_that_fits_is_whole(config, words):
    tokens = config.build()
    found = tokens.apply(report(words))
    assert tokens.invert(found).data == words
    assert found.meta["cut_tokens"] == 0
    assert tokens.apply(found) is found
    (part,) = tokens.split(report(words))
    assert np.array_equal(part.data, found.data)


def test_a_long_prompt_is_read_whole_in_windows():
    """Nothing is cut, and its last word is heard."""
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
