"""Settings that contradict each other are refused before anything is trained."""

import warnings
from pathlib import Path

import pytest

from core.config.registry import PairEntry, load_registry
from core.config.run_config import Flags, resolve
from core.errors import MedWeaveWarning, UserError
from core.flow.grammar import parse_flow
from core.flow.limits import require_consistency
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
            {"recipe": "medm2g", "preset": "small", "set": ["sampler.solver=heun"]},
            "sampler.eta = 1.0 needs the solver 'ddim', found 'heun'",
        ),
        (
            {"recipe": "medm2g", "set": ["training.guide.accumulate=2"]},
            "training.guide.accumulate = 2: with guide.contrast a whole batch",
        ),
        (
            {"set": ["align.target_temperature=0.3", "align.equal_reports=masked"]},
            "align.target_temperature = 0.3 is used with align.equal_reports 'soft' only, found",
        ),
        (
            {"set": ["training.align.batch=1"]},
            "training.align.batch = 1: a study needs another one to be compared with",
        ),
        ({"set": ["align.encoders=given"]}, "align.encoders = 'given' leaves phase 'align' nothing to train"),
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
    assert notes == []


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
