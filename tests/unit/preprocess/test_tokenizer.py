"""The byte-pair tokenizer, and the one that the text plugin ships."""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from core.errors import UserError
from core.preprocess import BpeTokenizerConfig, train_tokenizer
from core.preprocess.tokenizer import normalise_text
from core.types import Sample

TEXTS = [
    f"There is a {size} {side} pleural effusion. No pneumothorax. Nodule of {mm} mm."
    for size in ("small", "moderate", "large")
    for side in ("left", "right")
    for mm in (5, 12, 30)
]
VOCABULARY = 340


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.write_text(train_tokenizer(TEXTS, VOCABULARY), encoding="utf-8")
    return str(file)


def config(path, **changes):
    return BpeTokenizerConfig(**{"length": 40, "path": path, "vocabulary": VOCABULARY, **changes})


@pytest.fixture
def tokenizer(path):
    return config(path).build()


def text(data):
    return Sample(modality="text", data=data, meta={"path": "a.txt"})


@pytest.mark.parametrize(
    "data",
    [TEXTS[0], "No effusion.", "never SEEN Words", "Größe µ", "心影 😀", "a\nb", "", "7 x 12,5 mm", "\u200b\x00"],
)
def test_round_trip_is_exact(tokenizer, data):
    canonical = tokenizer.apply(text(data))
    assert canonical.data.dtype == np.int64
    assert canonical.data[[0, -1]].tolist() == [1, 2]
    assert canonical.data[1:-1].min(initial=3) >= 3
    assert tokenizer.apply(canonical) is canonical
    result = tokenizer.invert(canonical)
    assert result.data == data
    assert result.geometry is None
    assert result.meta == {"path": "a.txt", "cut_tokens": 0}


def test_white_space_is_normalised_and_lone_surrogates_too(tokenizer):
    assert tokenizer.invert(tokenizer.apply(text(" two   words \r\n\n"))).data == "two words"
    assert tokenizer.invert(tokenizer.apply(text("a\ud800b"))).data == "a?b"
    with pytest.raises(TypeError, match="text is a string"):
        tokenizer.apply(text(np.arange(3)))


def test_known_words_are_short(tokenizer):
    assert len(tokenizer.apply(text(TEXTS[4])).data) < len(TEXTS[4]) / 3


def test_digits_stand_alone(path):
    vocabulary = json.loads(open(path).read())["model"]["vocab"]
    assert not [piece for piece in vocabulary if any(c.isdigit() and c.isascii() for c in piece) and len(piece) > 1]


def test_rare_pieces_are_not_learned():
    """A name that stands in a few reports only must not become a token."""
    result = json.loads(train_tokenizer([*TEXTS * 20, *["Seen by Xyzzyman."] * 4], 600, min_count=5))
    learned = result["model"]["vocab"]
    assert "\u0120effusion" in learned
    assert not [piece for piece in learned if "yzz" in piece]


@pytest.mark.parametrize("data", ["effusion " * 60, "ä" * 80, "x" + "😀" * 40])
def test_what_is_cut_is_counted_and_characters_stay_whole(tokenizer, data):
    canonical = tokenizer.apply(text(data))
    assert 37 <= len(canonical.data) <= 40
    assert canonical.data[-1] == 2
    remaining = tokenizer.invert(canonical).data
    assert "\ufffd" not in remaining
    assert normalise_text(data).startswith(remaining)
    whole = config(tokenizer.config.path, length=1000).build().apply(text(data))
    assert canonical.meta["cut_tokens"] == len(whole.data) - len(canonical.data) > 0


def test_a_long_report_in_parts(tokenizer):
    report = " ".join(TEXTS[:6])
    parts = tokenizer.split(text(report))
    assert len(parts) >= 3
    assert all(len(part.data) <= 40 and part.meta["cut_tokens"] == 0 for part in parts)
    written = [tokenizer.invert(part).data for part in parts]
    assert "".join(written) == report
    assert all(part.endswith(".") for part in written)
    assert "".join(tokenizer.invert(part).data for part in tokenizer.split(text("😀" * 50))) == "😀" * 50
    (short,) = tokenizer.split(text("No effusion."))
    assert np.array_equal(short.data, tokenizer.apply(text("No effusion.")).data)
    assert len(tokenizer.split(text(""))) == 1


def test_ids_of_a_network_become_text(tokenizer, path):
    room = config(path, vocabulary=400).build()
    words = room.apply(text("No")).data[1:-1]
    ids = np.array([1, *words, 0, 399, 2, *words])
    assert room.invert(text(ids)).data == "No\ufffd"
    with pytest.raises(ValueError, match="0 to 339"):
        tokenizer.invert(text(np.array([1, 340, 2])))


def test_training_is_deterministic(path):
    program = f"from core.preprocess import train_tokenizer; print(train_tokenizer({TEXTS!r}, {VOCABULARY}), end='')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == open(path).read()
    assert len(json.loads(done.stdout)["model"]["vocab"]) <= VOCABULARY - 3


def test_a_config_is_light_and_the_tokenizer_goes_to_workers(tokenizer, path):
    program = "import sys, core.api; core.api.BpeTokenizerConfig; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    again = pickle.loads(pickle.dumps(tokenizer))
    assert np.array_equal(again.apply(text(TEXTS[0])).data, tokenizer.apply(text(TEXTS[0])).data)
    spec = config(path).spec
    assert (spec.kind, spec.vocabulary, spec.space) == ("tokens", VOCABULARY, (40,))


def test_a_bundle_keeps_the_tokenizer(tokenizer, tmp_path):
    (tmp_path / "kept.json").write_text(tokenizer.to_json(), encoding="utf-8")
    again = config(str(tmp_path / "kept.json")).build()
    assert np.array_equal(again.apply(text(TEXTS[0])).data, tokenizer.apply(text(TEXTS[0])).data)


def lower_casing(folder):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "words.json"))
    return str(folder / "words.json")


def test_an_unusable_file_gives_a_single_line(path, tmp_path):
    with pytest.raises(UserError, match=r"has \d+ ids, the networks are made for 300; train one with vocabulary=300"):
        config(path, vocabulary=300).build()
    with pytest.raises(UserError, match="cannot be read"):
        config(str(tmp_path / "none.json")).build()
    with pytest.raises(UserError, match="cannot be read"):
        config("no.such_package:tokenizer.json").build()
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match=r"no tokenizer\.json") as caught:
        config(str(tmp_path / "bad.json")).build()
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="does not restore a text exactly"):
        config(lower_casing(tmp_path)).build()
    with pytest.raises(UserError, match="at least 259 ids"):
        train_tokenizer(TEXTS, 100)


@pytest.mark.parametrize("package", ["stranger", "stranger.inner", "stranger.inner.deeper"])
@pytest.mark.parametrize("has_file", [True, False])
def test_naming_a_file_in_a_package_imports_nothing(path, tmp_path, monkeypatch, package, has_file):
    """The name may stand in the configuration of somebody else's run."""
    folder = tmp_path
    for name in package.split("."):
        folder /= name
        folder.mkdir()
        (folder / "__init__.py").write_text("raise SystemExit('this code ran')")
    monkeypatch.syspath_prepend(tmp_path)
    settings = config(f"{package}:tokenizer.json")
    if has_file:
        shutil.copy(path, folder)
        assert settings.build().apply(text("No pneumothorax.")).data[0] == 1
    else:
        with pytest.raises(UserError, match=f"no installed package '{package}' has a file 'tokenizer.json'"):
            settings.build()
    assert not [name for name in sys.modules if name.startswith("stranger")]


def test_the_shipped_tokenizer():
    shipped = BpeTokenizerConfig(length=128, path="plugins.text:tokenizer.json", vocabulary=1024).build()
    result = shipped.apply(text("There is a small left pleural effusion. The heart is mildly enlarged."))
    assert len(result.data) < 20
    rare = "Status post CABG; 8 mm RUL nodule, unchanged (cf. 12/03)."
    assert shipped.invert(shipped.apply(text(rare))).data == rare
