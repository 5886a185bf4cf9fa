"""Rounds over three modalities: what an earlier round trained stays to the bit, and latents are scaled.

The rounds are those of `core.align.train.train_round` and `core.guide.train.train_guide_round` (method E2, E15).
"""

import json
import shutil
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.train import main

ROOT = Path(__file__).parents[3]
ROUNDS = {
    "align": [{"toy_vector.prompt", "toy_grid.prompt"}, {"toy_view.prompt"}],
    "guide": [
        {"context.toy_vector", "context.toy_grid", "sites.toy_vector.denoiser", "sites.toy_grid.denoiser"},
        {"context.toy_view", "sites.toy_view.denoiser"},
    ],
}
LOCAL = """
[plugins.modules]
third = "third_toy"
[datasets.three_toys]
adapter = "three_toys"
root = "{root}"
"""


def states(session):
    """Every tensor of every network, by weight set. Attention inside a denoiser goes by ``sites.`` alone."""
    found = {}
    for key, module in session.networks._modules.items():
        own = module.state_dict()
        if key in session.networks.sets:
            own = {name: own[name] for name in session.networks.sets[key].config.build().state_dict()}
        found[key] = {name: value.clone() for name, value in own.items()}
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """One run; the networks before and after every round, and what the denoisers were trained on."""
    folder = tmp_path_factory.mktemp("three")
    shutil.copy(ROOT / "registry.toml", folder)
    (folder / "registry.local.toml").write_text(LOCAL.format(root=folder / "data"))
    rounds, targets = {"align": [], "guide": []}, {}

    def watch(phase, train):
        def call(session, one):
            before = states(session)
            lines = list(train(session, one))
            rounds[phase].append(SimpleNamespace(trains=set(one.trains), before=before, after=states(session)))
            return lines

        return call

    def keep(train):
        def call(trainer, key, denoiser, of, *rest, **options):
            targets.update({target.name: target for target in of})
            return train(trainer, key, denoiser, of, *rest, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(Path(__file__).parent))
        for phase in rounds:
            module = import_module(f"core.training.{phase}")
            patch.setattr(module, "_train", watch(phase, module._train))
        module = import_module("core.training.diffuse")
        patch.setattr(module, "train_denoiser", keep(module.train_denoiser))
        main(
            [
                "--registry",
                "registry.toml",
                "--flow",
                "toy_vector-toy_grid,toy_grid-toy_view",
                "--recipe",
                "medm2g",
                "--data",
                "three_toys",
                "--steps",
                "6",
                "--run",
                "run",
            ]
        )
    return SimpleNamespace(rounds=rounds, targets=targets, folder=folder)


@pytest.mark.parametrize("phase", ["align", "guide"])
def test_each_round_trains_what_is_new_and_nothing_else(watched, phase):
    first, second = watched.rounds[phase]
    assert [first.trains, second.trains] == ROUNDS[phase]
    for one in (first, second):
        for key, before in one.before.items():
            changed = [name for name, value in before.items() if not torch.equal(value, one.after[key][name])]
            assert bool(changed) == (key in one.trains), (key, changed)


@pytest.mark.parametrize("phase", ["align", "guide"])
def test_the_first_round_is_there_to_be_frozen(watched, phase):
    """Otherwise nothing would have been compared."""
    first, second = watched.rounds[phase]
    assert first.trains <= second.before.keys()
    assert all(second.before[key] for key in first.trains)


def test_denoisers_are_trained_on_latents_of_unit_variance(watched):
    assert watched.targets.keys() == {"toy_vector", "toy_grid", "toy_view"}
    for target in watched.targets.values():
        rows = target.latents.movedim(1, -1).flatten(0, -2).double()
        assert torch.allclose(rows.mean(0), torch.zeros(rows.shape[1]).double(), atol=1e-4), target.name
        assert torch.allclose(rows.std(0, correction=0), torch.ones(rows.shape[1]).double(), atol=1e-4), target.name


def test_every_round_decides_on_coupling_by_its_validation_studies(watched):
    """The decision is recorded with the weights of the round, and the table shows the same verdict."""
    lines = json.loads((watched.folder / "run/progress.json").read_text())["stages"]["guide 2 toy_grid-toy_view"][
        "lines"
    ]
    by_pair = {row["what"].partition(":")[0]: row for row in lines}
    noted = json.loads((watched.folder / "run/guide/context.toy_view/about.json").read_text())["listening"]
    assert {(receiver, sender) for receiver, sender, _ in noted} == {
        ("toy_grid", "toy_view"),
        ("toy_view", "toy_grid"),
    }
    for receiver, sender, used in noted:
        row = by_pair[f"{receiver} ← {sender}"]
        assert row["reference"].endswith("; harmful: disabled by default") == (not used)
        assert row["low"] > 0 or not row["reference"].endswith("; beneficial")
