"""What is left of a report whose sentences are dropped."""

from collections import Counter

import pytest
import torch

from core.preprocess.tokenizer import some_sentences

REPORT = (
    "FINDINGS:\nSmall left effusion of 3.5 cm. No pneumothorax! Heart: normal\nin size.\nIMPRESSION: Effusion.\nNo mass"
)
PARTS = [
    "FINDINGS:\nSmall left effusion of 3.5 cm. ",
    "No pneumothorax! ",
    "Heart: normal\nin size.\n",
    "IMPRESSION: Effusion.\n",
    "No mass",
]


def drawn(text, num=400):
    return [some_sentences(text, torch.Generator().manual_seed(seed)) for seed in range(num)]


def test_sentences_stay_whole_and_in_order():
    for text in drawn(REPORT):
        rest, chosen = text, []
        for part in PARTS:
            if rest.startswith(part.strip()):
                chosen.append(part)
                rest = rest[len(part.strip()) :].lstrip()
        assert not rest, text
        assert "".join(chosen).strip() == text


def test_any_number_of_sentences_is_as_probable_as_another():
    numbers = Counter(sum(part.strip() in text for part in PARTS) for text in drawn(REPORT))
    assert set(numbers) == {1, 2, 3, 4}, "at least one, never all"
    assert min(numbers.values()) > 70


def test_every_sentence_stands_alone_now_and_then():
    alone = set(drawn(REPORT)) & {part.strip() for part in PARTS}
    assert len(alone) == len(PARTS)


@pytest.mark.parametrize(
    "text", ["", "No effusion.", "Heart size 3.5 cm", "\n", "There is no evidence of\neffusion.", "FINDINGS:\nNo mass."]
)
def test_what_has_no_several_sentences_stays(text):
    assert set(drawn(text, 20)) == {text}


def test_a_generator_decides_alone():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    assert drawn(REPORT, 20) == drawn(REPORT, 20)
    assert torch.equal(state, torch.random.get_rng_state())
