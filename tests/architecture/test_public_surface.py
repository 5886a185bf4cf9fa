"""The public promise: names of `core.api`, hooks, and flags. A change here is a change for users: say it in the docs."""

import argparse
import inspect
import re
from pathlib import Path

import pytest

import core.api
import core.check
import core.export.__main__
import core.generate.__main__
import core.io
import core.nn
import core.prepare
import core.studio.__main__
import core.testing
import core.train
from core.contract import discovery, hookspecs

ROOT = Path(__file__).parents[2]

API = """
Augmenter Autoencoder Batch BpeTokenizerConfig ByteTokenizerConfig CONTRACT Conditioning Context DataFile DataSpec DatasetAdapter Denoiser FileRef Geometry
LabelPreprocessConfig LabelAugmenterConfig LatentSpec MetricSpec Modality PackagedModel PartConfig Parts PercentileNormalizationConfig MedWeaveWarning Posterior Preprocessor Prompt PromptEncoder
Provenance WindowNormalizationConfig Reader Record Sample Shared Site Space UserError AugmenterConfig Writer file_ref hookimpl
in_order num_cores progress train_tokenizer
"""
TRAIN = "--config --data --device --extended --flow --help --phase --plan --preset --processes --recipe --registry --reuse --run --seed --set --steps -h"
CHECK = "--help --made-by --params --preset --registry -h"
GENERATE = "--batch --cluster --condition --context-scale --coupling --device --first --format --guidance-interval --guidance-order --guidance-rescale --guidance-scale --help --keep-prompt --lead --merge --negative-prompt --num --out --output --overwrite --prompt --prompt-weight --registry --run --seed --shard --solver --steps --table --workers -h"
EXPORT = "--contact --form --help --licence-allows-sharing --name --out --precision --registry -h"
STUDIO = "--allow-host --device --help --host --max-upload --port --registry --run -h"
PREPARE = "--audit-only --cluster --dicom --dry-run --flow --help --modality --num --out --preset --quiet --registry --root --seed --set --strict --workers -h"
# Flags of the version before: still accepted, with a warning, and no longer shown.
FORMER = {
    core.train: "--long",
    core.generate.__main__: "--couple --given --scale",
    core.check: "",
    core.prepare: "",
    core.export.__main__: "",
    core.studio.__main__: "",
}
COMMANDS = (
    core.train, core.generate.__main__, core.check, core.prepare, core.export.__main__, core.studio.__main__,
)  # fmt: skip


def flags(module, *, former: bool = False) -> str:
    actions = [action for action in module.parser()._actions if (action.help is argparse.SUPPRESS) == former]
    return " ".join(sorted(option for action in actions for option in action.option_strings))


def test_names_of_the_api():
    assert sorted(core.api.__all__) == sorted(API.split())


def test_every_name_of_the_api_can_be_had():
    for name in (*core.api.__all__,):
        assert getattr(core.api, name) is not None
    assert "no_such_name" not in dir(core.api)


@pytest.mark.parametrize("facade", [core.api, core.io, core.nn, core.testing], ids=lambda facade: facade.__name__)
def test_a_former_name_is_the_same_object_and_is_not_listed(facade):
    for former, name in facade._FORMER.items():
        assert getattr(facade, former) is getattr(facade, name)
        assert former not in facade.__all__


def test_flags_of_train():
    assert flags(core.train) == TRAIN


def test_flags_of_check():
    assert flags(core.check) == CHECK


def test_flags_of_prepare():
    assert flags(core.prepare) == PREPARE


def test_flags_of_studio():
    assert flags(core.studio.__main__) == STUDIO


def test_flags_of_generate():
    assert flags(core.generate.__main__) == GENERATE


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__)
def test_former_flags(module):
    assert flags(module, former=True) == FORMER[module]


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__)
def test_every_flag_is_on_the_page_of_commands(module):
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    name = module.__name__.removesuffix(".__main__")
    section = page.partition(f"## `{name}`")[2].partition("\n## ")[0]
    missing = [flag for flag in flags(module).split() if flag not in ("-h", "--help") and f"`{flag}`" not in section]
    assert not missing, f"{module.__name__}: {missing}"


def test_every_flag_has_a_help_text():
    for module in COMMANDS:
        assert all(action.help for action in module.parser()._actions)


def test_hooks_are_bodiless_and_have_a_one_line_docstring():
    for name in discovery.HOOKS:
        source = inspect.getsource(getattr(hookspecs, name))
        assert source.rstrip().endswith('"""')
        assert "\n" not in inspect.getdoc(getattr(hookspecs, name))


def test_every_hook_is_documented():
    page = (ROOT / "docs/reference/hooks.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^## `(register_\w+)\(\)`", page, re.M))
    assert documented == set(discovery.HOOKS)


def test_every_hook_is_tested():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "unit").rglob("*.py"))
    for name in discovery.HOOKS:
        assert f"def {name}()" in tests, f"no test implements {name}"


def test_everything_that_make_may_take_is_documented():
    page = (ROOT / "docs/reference/hooks.md").read_text(encoding="utf-8")
    assert all(f"`{word}`" in page for word in ("make(root)", "num", "seed", "workers", "progress"))


def test_every_check_is_documented():
    page = (ROOT / "docs/reference/contract.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", page, re.M))
    assert documented == set(core.testing.check_names())
