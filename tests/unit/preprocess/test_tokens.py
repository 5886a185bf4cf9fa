import numpy as np
import pytest

from core.preprocess import ByteTokenizerConfig
from core.preprocess.tokenizer import BEGIN, END, PAD, VOCABULARY, normalise_text
from core.types import Sample


def text(data):
    return Sample(modality="text", data=data, meta={"path": "a.txt"})


@pytest.fixture
def tokenizer():
    return ByteTokenizerConfig(length=16).build()


def test_ids_are_bytes_between_specials(tokenizer):
    assert tokenizer.apply(text("ab")).data.tolist() == [BEGIN, 100, 101, END]
    assert tokenizer.apply(text("")).data.tolist() == [BEGIN, END]
    assert tokenizer.apply(text("ab")).data.dtype == np.int64
    spec = ByteTokenizerConfig(length=16).spec
    assert (spec.vocabulary, spec.space) == (VOCABULARY, (16,)) == (259, (16,))


@pytest.mark.parametrize("data", ["No effusion.", "Größe µ", "心影", "a\nb", ""])
def test_round_trip_is_exact(tokenizer, data):
    canonical = tokenizer.apply(text(data))
    assert tokenizer.apply(canonical) is canonical
    result = tokenizer.invert(canonical)
    assert result.data == data
    assert canonical.meta["cut_tokens"] == 0
    assert result.geometry is None


@pytest.mark.parametrize(
    ("data", "remaining", "cut"), [("a" * 20, "a" * 14, 6), ("ä" * 10, "ä" * 7, 6), ("x" + "ä" * 10, "x" + "ä" * 6, 8)]
)
def test_what_is_cut_is_counted_and_characters_stay_whole(tokenizer, data, remaining, cut):
    canonical = tokenizer.apply(text(data))
    assert len(canonical.data) <= 16
    assert canonical.data[-1] == END
    assert canonical.meta["cut_tokens"] == cut
    assert tokenizer.invert(canonical).data == remaining


def test_white_space_is_normalised():
    assert normalise_text("  a \t b\r\n\r\n \n c\u00a0d\re ") == "a b\nc d\ne"
    assert normalise_text("already\nso") == "already\nso"
    long = ByteTokenizerConfig(length=64).build()
    assert long.invert(long.apply(text(" two   words \n\n"))).data == "two words"


def test_ids_of_a_network_become_text(tokenizer):
    ids = np.array([BEGIN, 100, PAD, 101, 0xFF + 3, END, 102])
    assert tokenizer.invert(text(ids)).data == "ab\ufffd"
    with pytest.raises(ValueError, match="0 to 258"):
        tokenizer.invert(text(np.array([1, 259, 2])))


def test_lone_surrogates_and_other_data(tokenizer):
    assert tokenizer.invert(tokenizer.apply(text("a\ud800b"))).data == "a?b"
    with pytest.raises(TypeError, match="text is a string"):
        tokenizer.apply(text(np.arange(3)))
