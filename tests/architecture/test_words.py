"""The code speaks the field's language, and cites what a reader can open (rule 8 of docs/explanation/architecture.md)."""

import io
import keyword
import re
import tokenize

import pytest

from tests.architecture.source import ROOT, python_files

# Words of ours that other libraries do not use as names; see the glossary for the field's.
PRIVATE = frozenset("told heard said kept found one place places beside who asked own".split())
OF_LIBRARIES = frozenset({"FileNotFoundError", "ModuleNotFoundError", "PackageNotFoundError", "OneCycleLR"})
PAGES = sorted(path for path in ROOT.rglob("*.md") if not {".venv", ".git", "site"} & set(path.parts))
# A document that is cited by its name in capitals must be a page of the repository.
CITED = re.compile(r"\b(?:(?:DESIGN|METHOD|HOUSE|FINDINGS|ANCHORS)\.md\b|DESIGN(?: \d[\w.]*)?\b)")


def parts(name):
    """``haveFound_one`` to ``have``, ``found``, ``one``."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def private_names(source):
    """Line and name of every identifier that holds a private word."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.NAME or keyword.iskeyword(token.string) or token.string in OF_LIBRARIES:
            continue
        if parts(token.string) & PRIVATE:
            yield token.start[0], token.string


def missing_documents(text):
    """Documents that a text cites and the repository does not have."""
    return CITED.findall(text)


def test_no_identifier_is_of_a_private_language():
    names = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in python_files("core", "plugins")
        for line, name in private_names(path.read_text(encoding="utf-8"))
    ]
    assert not names, "\n".join(names)


@pytest.mark.parametrize(
    "planted",
    ["told = 1", "def f(kept_rows): pass", "class WhoAsked: pass", "x.places", "f(beside=1)", "import x as own"],
)
def test_a_planted_private_name_is_noticed(planted):
    assert list(private_names(planted + "\n"))


@pytest.mark.parametrize(
    "harmless", ["tone = 1", "x = 'told'", "# kept", "except FileNotFoundError: pass", "owner = 2"]
)
def test_other_names_are_free(harmless):
    source = f"try:\n    pass\n{harmless}\n" if harmless.startswith("except") else f"{harmless}\n"
    assert not list(private_names(source))


def test_no_page_and_no_module_cites_a_missing_document():
    files = [*PAGES, *python_files("core", "plugins", "benchmarks", "docs")]
    cited = {
        str(path.relative_to(ROOT)): missing
        for path in files
        if (missing := missing_documents(path.read_text(encoding="utf-8")))
    }
    assert not cited


@pytest.mark.parametrize("planted", ["see DESIGN 7.2", "as HOUSE.md says", "FINDINGS.md R", "METHOD.md"])
def test_a_planted_citation_is_noticed(planted):
    assert missing_documents(planted)


def test_every_cited_equation_has_an_anchor_on_the_page_of_the_method():
    page = (ROOT / "docs/explanation/method.md").read_text(encoding="utf-8")
    anchors = set(re.findall(r"^### ([EF]\d+[a-c]?) ", page, re.M))
    cited = {
        equation
        for path in python_files("core")
        for match in re.findall(r"(?i:method) ((?:[EF]\d+[a-c]?(?:, | and )?)+)", path.read_text(encoding="utf-8"))
        for equation in re.findall(r"[EF]\d+[a-c]?", match)
    }
    assert cited
    assert cited <= anchors
