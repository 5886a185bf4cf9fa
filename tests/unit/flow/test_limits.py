"""What training does not follow is said before it starts: an error for a setting, a warning for a shipped recipe."""

import warnings
from pathlib import Path

import pytest

from core.config.registry import PairEntry, load_registry, shipped_recipes
from core.config.run_config import Flags, resolve, to_toml
from core.errors import MedWeaveWarning, UserError
from core.flow.grammar import parse_flow
from core.flow.limits import NOT_READ, UNSUPPORTED, apply_limits, require_consistency
from core.testing.toy import TOY_GRID, TOY_VECTOR

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")
TOYS = {modality.name: modality for modality in (TOY_GRID, TOY_VECTOR)}
FLOW = parse_flow("toy_vector-toy_grid", TOYS, {})


def config(**flags):
    return resolve(REGISTRY, TOYS, Flags(**flags))


def warned(call):
    """The plain warnings of a call, and its result."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    assert all(issubclass(item.category, MedWeaveWarning) for item in caught)
    return [str(item.message) for item in caught], result


@pytest.mark.parametrize(
    ("setting", "works"),
    [
        ("diffuse.objective=v", "diffuse.objective = 'epsilon'"),
        ("diffuse.objective=rectified_flow", "diffuse.objective = 'epsilon'"),
        ("diffuse.timesteps=500", "diffuse.timesteps = 1000"),
        ("diffuse.beta_start=0.001", "diffuse.beta_start = 0.00085"),
        ("diffuse.beta_end=0.02", "diffuse.beta_end = 0.012"),
        ("diffuse.zero_terminal_snr=true", "diffuse.zero_terminal_snr = false"),
        ("prompt.form=mixed_pooled", "prompt.form = 'pooled_and_neighbour_tokens'"),
        ("prompt.null=empty_text", "prompt.null = 'learned'"),
        ("align.encoders=given", "align.encoders = 'trained'"),
    ],
)
def test_a_setting_that_training_does_not_follow_is_refused(setting, works):
    key = setting.partition("=")[0]
    with pytest.raises(UserError) as caught:
        apply_limits(config(set=[setting]), shipped_recipes())
    assert str(caught.value).startswith(f"{key} = ")
    assert f"trains with {works} only" in str(caught.value)


def test_every_limit_is_the_value_of_the_default_recipe():
    notes, result = warned(lambda: apply_limits(config(recipe="medm2g"), shipped_recipes()))
    assert notes == []
    assert result == config(recipe="medm2g")


@pytest.mark.parametrize("recipe", ["medcodi_m", "codi_xr", "medisyn"])
def test_a_shipped_recipe_is_one_warning_and_what_is_trained_is_written_down(recipe):
    notes, result = warned(lambda: apply_limits(config(recipe=recipe), shipped_recipes()))
    assert len(notes) == 1
    assert f"recipe '{recipe}' has prompt.form = " in notes[0]
    assert "it trains with prompt.form = 'pooled_and_neighbour_tokens'" in notes[0]
    assert result.prompt.form == "pooled_and_neighbour_tokens"
    assert "pooled_and_neighbour_tokens" in to_toml(result)
    # The run file repeats the run, and has nothing more to say.
    assert warned(lambda: apply_limits(result, shipped_recipes())) == ([], result)


def test_a_changed_recipe_of_a_registry_is_somebody_s_setting():
    recipe = REGISTRY.recipe("medm2g")
    changed = recipe.model_copy(update={"diffuse": recipe.diffuse.model_copy(update={"timesteps": 10})})
    registry = REGISTRY.model_copy(update={"recipes": {**REGISTRY.recipes, "medm2g": changed, "mine": changed}})
    for name in ("medm2g", "mine"):
        with pytest.raises(UserError, match=r"diffuse\.timesteps = 10: .* diffuse\.timesteps = 1000 only"):
            apply_limits(resolve(registry, TOYS, Flags(recipe=name)), shipped_recipes())


def test_phases_that_do_not_run_have_no_limits():
    chosen = config(set=["diffuse.timesteps=10"], phase="autoencoder,align")
    assert apply_limits(chosen, shipped_recipes()) == chosen


def test_a_switch_that_is_not_read_is_an_error():
    with pytest.raises(UserError, match=r"align\.image_encoder = 'none' is not read; .*MODALITY\.prompt\.FIELD"):
        apply_limits(config(set=["align.image_encoder=none"]), shipped_recipes())


def test_limits_name_existing_switches():
    recipe = REGISTRY.recipe("medm2g")
    for key in [*(limit.key for limit in UNSUPPORTED), *NOT_READ]:
        group, _, field = key.partition(".")
        assert hasattr(getattr(recipe, group), field)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            {"phase": "guide"},
            "phase 'guide' continues from autoencoder and diffuse of the same run, found phases guide;",
        ),
        ({"phase": "guide"}, "give --phase autoencoder,diffuse,guide"),
        ({"phase": "align,diffuse"}, "phase 'diffuse' continues from autoencoder"),
        ({"set": ["guide.context=none"]}, "guide.context = 'none' leaves phase 'guide' nothing to train"),
        (
            {"preset": "small", "set": ["sampler.solver=heun"]},
            "sampler.eta = 1.0 needs the solver 'ddim', found 'heun'",
        ),
        ({"set": ["training.guide.accumulate=2"]}, "training.guide.accumulate = 2: with guide.contrast a whole batch"),
        (
            {"set": ["align.target_temperature=0.3", "align.equal_reports=masked"]},
            "align.target_temperature = 0.3 is used with align.equal_reports 'soft' only, found",
        ),
        (
            {"set": ["training.align.batch=1"]},
            "training.align.batch = 1: a study needs another one to be compared with",
        ),
        ({"set": ["training.align.accumulate=2"]}, "training.align.accumulate = 2: alignment compares a whole batch"),
    ],
)
def test_settings_that_do_not_go_together(flags, expected):
    with pytest.raises(UserError) as caught:
        require_consistency(config(**flags), REGISTRY, FLOW)
    assert expected in str(caught.value)


@pytest.mark.parametrize("recipe", sorted(REGISTRY.recipes))
def test_the_shipped_recipes_are_consistent(recipe):
    notes, _ = warned(lambda: require_consistency(config(recipe=recipe), REGISTRY, FLOW))
    aligns = "align" in config(recipe=recipe).phases.run
    assert len(notes) == (0 if aligns else 1), notes


def test_diffusion_without_alignment_is_a_warning():
    (note,), _ = warned(lambda: require_consistency(config(phase="autoencoder,diffuse"), REGISTRY, FLOW))
    assert note.startswith("phase 'align' is left out: the prompt encoders stay as they are built")


@pytest.mark.parametrize("entry", [PairEntry(weight=2), PairEntry(datasets=("toy",))])
def test_pair_entries_of_the_flow_are_refused(entry):
    def registry(name):
        return REGISTRY.model_copy(update={"pairs": {name: entry}})

    with pytest.raises(UserError, match=r"\[pairs\] 'toy_grid-toy_vector' weighs or restricts a pair of the flow"):
        require_consistency(config(), registry("toy_grid-toy_vector"), FLOW)
    require_consistency(config(), registry("text-ct"), FLOW)


def test_pairs_name_installed_modalities():
    registry = REGISTRY.model_copy(update={"pairs": {"toy_gird-toy_vector": PairEntry()}})
    with pytest.raises(
        UserError, match=r"pairs\.toy_gird-toy_vector: no modality 'toy_gird' .* did you mean 'toy_grid'"
    ):
        registry.require_known_pairs(TOYS)
