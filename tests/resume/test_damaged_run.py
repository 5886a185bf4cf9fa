"""Damaged run folders: every file in every way, for generation and for training that continues.

Either the damage does no harm, or it is one line of an error: never a traceback, and never another study.
"""

import shutil
import warnings
from pathlib import Path

import medweave
import numpy as np
import pytest

import core.train
from core.errors import UserError
from tests.resume.runs import FLOW, SHORT


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "removed": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": _flipped,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "folder": _folder,
    "nested": lambda path: path.write_text("[" * 100_000),
    "a list": lambda path: path.write_text("[1, 2]"),
    "another link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "escapes": lambda path: path.write_text("\x1b[31mred\x1b[0m = {"),
}
KINDS = (".json", ".toml", ".safetensors", ".jsonl", ".txt", ".html")


def files_of(whole):
    found = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.suffix in KINDS)
    assert len(found) > 15
    return found


def damaged(whole, file, damage, to):
    run = shutil.copytree(whole, to)
    DAMAGES[damage](run / file)
    return run


def one_line(error):
    text = str(error)
    assert "\n" not in text
    assert len(text) < 1000
    return text


@pytest.fixture(scope="module")
def expected(whole):
    (study,) = medweave.load(whole, device="cpu").generate(num=1, seed=1, steps=2)
    return study


@pytest.mark.parametrize("damage", DAMAGES)
def test_generation_says_what_is_damaged_or_makes_the_same_study(whole, expected, tmp_path, damage):
    refused = set()
    for number, file in enumerate(files_of(whole)):
        run = damaged(whole, file, damage, tmp_path / str(number))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                (study,) = medweave.load(run, device="cpu").generate(num=1, seed=1, steps=2)
        except UserError as error:
            one_line(error)
            refused.add(str(file))
        else:
            for name in expected:
                assert np.array_equal(study[name], expected[name]), f"{file}: another study"
    assert {"config.toml", "progress.json"} <= refused
    assert any(file.endswith("weights.safetensors") for file in refused)


@pytest.mark.parametrize("damage", ["removed", "cut", "flipped", "folder", "nested"])
def test_training_that_continues_says_it_too(whole, tmp_path, damage, capsys):
    """The run is finished: the command reads it, and prints its table or one line of an error."""
    refused = set()
    for number, file in enumerate(files_of(whole)):
        run = damaged(whole, file, damage, tmp_path / str(number))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                core.train.main([*FLOW, *SHORT, "--run", str(run)])
        except UserError as error:
            one_line(error)
            refused.add(str(file))
        else:
            assert "toy_vector → toy_grid retrieval, R@5" in capsys.readouterr().out, f"{file}: no table"
        capsys.readouterr()
    assert any(file.endswith("weights.safetensors") for file in refused)
    assert damage == "removed" or "progress.json" in refused, "without it the run begins anew"


@pytest.mark.parametrize("part", ["align", "autoencoder", "joint", "latents"])
def test_a_missing_folder(whole, tmp_path, part):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / part)
    if part == "latents":
        medweave.load(run, device="cpu").generate(num=1, steps=2)
        return
    with pytest.raises(UserError) as refusal:
        medweave.load(run, device="cpu").generate(num=1, steps=2)
    assert str(run) in one_line(refusal.value)
