"""What follows from the options of a run is computed once, and a command resolves its run in one step."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.config.installation import Installation
from core.config.registry import DatasetEntry, DataSource, load_registry
from core.config.run_config import Flags
from core.contract.discovery import Catalog, Plugin
from core.contract.modality import DatasetAdapter
from core.errors import MedWeaveWarning, PluginError, UserError
from core.flow.run import Run, resolve_run
from core.testing.toy import TOY_GRID, TOY_VECTOR

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")
TOYS = {modality.name: modality for modality in (TOY_GRID, TOY_VECTOR)}
CATALOG = Catalog((), TOYS)
FLAGS = Flags(flow="toy_vector-toy_grid", phase="autoencoder,diffuse,guide,align")


@pytest.fixture
def run() -> Run:
    return resolve_run(Installation(REGISTRY.model_copy(update={"pairs": {}}), CATALOG), FLAGS)


def test_rounds_weight_sets_and_outputs_are_computed_once(run):
    for name in ("rounds", "weight_sets", "outputs"):
        assert getattr(run, name) is getattr(run, name)
    assert [item.edge.text for item in run.rounds["align"]] == ["toy_vector-toy_grid"]


def test_a_changed_run_computes_anew(run):
    other = replace(run, config=run.config.model_copy(update={"seed": 7}))
    assert other.rounds is not run.rounds
    assert other.rounds == run.rounds


def test_readers_of_a_data_set_are_computed_once(run):
    adapter = DatasetAdapter(
        name="one", title="One", modalities=("toy_grid",), licence="none", citation="none", scan=lambda root: ()
    )
    plain = DataSource("one", adapter, Path(), DatasetEntry(adapter="one", root="."))
    assert run.readers(plain) is run.readers(plain)
    assert run.readers(plain) == {}
    wrong = replace(plain, entry=DatasetEntry(adapter="one", root=".", reader={"toy_grid": {"no_such_field": 3}}))
    with pytest.raises(UserError, match=r"datasets\.one\.reader: .*no_such_field"):
        run.readers(wrong)


def test_a_plugin_that_failed_to_load_is_one_warning():
    broken = Plugin("other", "other", "other", "1", error=PluginError("plugin 'other' cannot be used"))
    with pytest.warns(MedWeaveWarning) as caught:
        resolve_run(Installation(REGISTRY, replace(CATALOG, plugins=(broken,))), FLAGS)
    lines = [str(warning.message) for warning in caught if warning.category is MedWeaveWarning]
    assert lines.count("plugin 'other' cannot be used") == 1


def test_pairs_of_unknown_modalities_are_an_error_where_every_name_is_known():
    registry = REGISTRY.model_copy(update={"pairs": {"text-ct": REGISTRY.pair("text", "ct")}})
    with pytest.raises(UserError, match=r"pairs\.text-ct: no modality 'text'"):
        resolve_run(Installation(registry, CATALOG), FLAGS)


def rounds_with(run, **switches):
    phases = run.config.phases.model_copy(update={"freeze": switches.get("freeze", "earlier_rounds")})
    guide = run.config.guide.model_copy(update={"trains": switches.get("trains", "sublayers")})
    return replace(run, config=run.config.model_copy(update={"phases": phases, "guide": guide})).rounds["guide"]


def test_a_joint_round_trains_what_the_rounds_froze(run):
    """Method F9: after the rounds, or in their place, all coupled flows learn together."""
    sublayers = {f"context.{name}" for name in TOYS} | {f"sites.{name}.denoiser" for name in TOYS}
    first, last = rounds_with(run, freeze="then_joint")
    assert (first.joint, last.joint) == (False, True)
    assert set(last.modalities) == set(TOYS)
    assert set(last.trains) == sublayers
    assert last.edge.coupled == (("toy_vector", "toy_grid"),)
    (alone,) = rounds_with(run, freeze="joint", trains="all")
    assert alone.joint
    learned = {f"{name}.denoiser" for name in TOYS} | {f"{name}.prompt_assembly" for name in TOYS}
    assert set(alone.trains) == sublayers | learned
    assert not any(item.joint for item in rounds_with(run, freeze="none"))
    assert set(rounds_with(run, trains="all")[0].trains) == sublayers | learned


def test_alignment_has_no_joint_round(run):
    for freeze in ("then_joint", "joint"):
        phases = run.config.phases.model_copy(update={"freeze": freeze})
        changed = replace(run, config=run.config.model_copy(update={"phases": phases}))
        assert [item.joint for item in changed.rounds["align"]] == [False]
