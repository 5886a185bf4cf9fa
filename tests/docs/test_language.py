"""Pages are easy to read: short sentences, and the field's words in place of ours."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = {".venv", ".git", "site", "node_modules"}
PAGES = [path for path in sorted(ROOT.rglob("*.md")) if not OUTSIDE & set(path.relative_to(ROOT).parts)]
PRIVATE = re.compile(
    r"\b(gullet|windpipe|breastbone|shoulder blades?|caval veins?|listens? to|told by|saved beside|word for word"
    r"|token by token|said by the scan|names taken out|even pictures|share of the ceiling|found by its labels)\b",
    re.I,
)


def prose(text):
    """The sentences of a page: without code, tables, headings and addresses; an item of a list is a sentence."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.S)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "!["))]
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(lines))
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"^\s*(?:[-*]|\d+\.) |\n\s*\n", ". ", text, flags=re.M)
    return [sentence for sentence in re.split(r"[.!?](?:\s|$)", text) if len(sentence.split()) > 2]


def mean_length(text):
    """Words a sentence; 0 where there is no prose."""
    lengths = [len(sentence.split()) for sentence in prose(text)]
    return sum(lengths) / len(lengths) if lengths else 0.0


def test_sentences_are_short():
    long = {
        str(path.relative_to(ROOT)): round(mean, 1) for path in PAGES if (mean := mean_length(path.read_text())) >= 22
    }
    assert not long


def test_pages_use_the_words_of_the_field():
    used = {
        str(path.relative_to(ROOT)): words
        for path in PAGES
        if (words := sorted({match.lower() for match in PRIVATE.findall(path.read_text())}))
    }
    assert not used


def test_a_long_sentence_and_a_private_word_are_noticed():
    assert mean_length("word " * 30 + ".") > 22
    assert mean_length("A short one. " * 9) < 22
    assert PRIVATE.search("CT listens to MRI")


@pytest.mark.parametrize("text", ["# A heading", "| a | table |", "```sh\nrun it\n```", ""])
def test_what_is_no_prose_has_no_sentences(text):
    assert prose(text) == []
