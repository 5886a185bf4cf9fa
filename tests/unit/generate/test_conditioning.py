"""Which inputs reach which output: prompts by their source, partners by what was trained and not shown harmful."""

from types import SimpleNamespace

import pytest
import torch

from core.errors import UserError
from core.generate.bundle import Bundle
from core.generate.conditioning import (
    Reason,
    conditioning_graph,
    require_used_conditions,
    require_used_prompts,
    route_prompts,
)
from core.generate.pipeline import routed_prompts
from core.types import Prompt

PAIRS = (("frontal", "lateral"), ("ct", "mri"))
NAMES = ("frontal", "lateral", "ct", "mri")
MEANS = {"text": [1.0, 0.0], "ct": [0.0, 1.0], "mri": [0.6, 0.8], "xray": []}
SOURCES = {"mri": ("ct",), "ct": ("text", "mri")}


class Trained(Bundle):
    """A bundle whose rounds have recorded these decisions with their context encoders."""

    def __init__(self, uncoupled=(), **decisions):
        self.uncoupled = uncoupled
        self.networks = SimpleNamespace(about=lambda key: {"listening": decisions.get(key.partition(".")[2], [])})
        self.run = SimpleNamespace(
            prompt_sources=lambda name: SOURCES.get(name, ()),
            config=SimpleNamespace(prompt=SimpleNamespace(form="pooled_and_neighbour_tokens")),
            parts=lambda name: SimpleNamespace(data=SimpleNamespace(default_geometry=None)),
        )

    trained_pairs = PAIRS

    def has_trained_prompt_encoder(self, modality):
        return modality != "mri"

    def coupled(self, modality):
        return modality not in self.uncoupled

    def mean_prompt(self, modality):
        return tuple(MEANS.get(modality, ()))


def partners(bundle, outputs, given=(), coupling="auto"):
    return conditioning_graph(bundle, outputs, given=dict.fromkeys(given), coupling=coupling).partners


def test_partners_are_trained_pairs_that_are_not_harmful():
    bundle = Trained(mri=[["mri", "ct", True], ["ct", "mri", False]])
    assert partners(bundle, NAMES, coupling="trained")["ct"] == ("mri",)
    assert partners(bundle, NAMES) == {
        "frontal": ("lateral",),  # nothing was measured: as trained
        "lateral": ("frontal",),
        "ct": (),
        "mri": ("ct",),
    }


def test_a_given_modality_was_requested_by_name():
    bundle = Trained(mri=[["ct", "mri", False], ["mri", "ct", True]])
    assert partners(bundle, ("ct",), ("mri",)) == {"ct": ("mri",)}


@pytest.mark.parametrize("recorded_by", ["ct", "mri"])
def test_either_modality_may_hold_the_decision(recorded_by):
    bundle = Trained(**{recorded_by: [["ct", "mri", False]]})
    assert not bundle.uses("ct", "mri")
    assert bundle.uses("mri", "ct")


def test_all_and_none():
    bundle = Trained(uncoupled=("frontal",))
    graph = conditioning_graph(bundle, ("frontal", "ct", "mri"), given={"lateral": None}, coupling="all")
    assert graph.partners == {"frontal": (), "ct": ("mri", "lateral"), "mri": ("ct", "lateral")}
    assert graph.reasons["frontal"] == dict.fromkeys(("ct", "mri", "lateral"), Reason.NO_ATTENTION)
    assert graph.reasons["ct"]["frontal"] == Reason.NO_CONTEXT
    assert partners(bundle, NAMES, coupling="none") == dict.fromkeys(NAMES, ())


def test_every_modality_that_is_no_partner_has_a_reason():
    bundle = Trained(mri=[["mri", "ct", True], ["ct", "mri", False]])
    reasons = conditioning_graph(bundle, NAMES).reasons
    assert reasons["ct"] == {
        "frontal": Reason.NOT_TRAINED,
        "lateral": Reason.NOT_TRAINED,
        "mri": Reason.HARMFUL,
    }
    assert reasons["mri"]["ct"] == Reason.USED


def test_inputs_come_with_the_partners_that_depend_on_them():
    graph = conditioning_graph(Trained(), ("mri", "ct"), prompts=("text",), given={"lateral": None})
    assert graph.prompts == {"mri": {}, "ct": {"text": "text"}}
    assert graph.inputs() == {"mri": {"text"}, "ct": {"text"}}
    chained = conditioning_graph(Trained(), ("frontal", "ct"), given={"lateral": None, "mri": None})
    assert chained.inputs() == {"frontal": {"given lateral"}, "ct": {"given mri"}}


def test_a_prompt_that_an_output_never_met_reaches_it_through_a_partner_that_did():
    """MRI never met text and CT did: with CT beside it, generated along, MRI follows CT; else it reads the text."""
    bundle = Trained(mri=[["mri", "ct", True]])

    def of_mri(outputs, **options):
        graph = conditioning_graph(bundle, outputs, prompts=("text",), negative=("text",), **options)
        assert graph.negative["mri"] == graph.prompts["mri"]
        return graph.prompts["mri"]

    assert of_mri(("mri", "ct")) == {}
    assert of_mri(("mri",)) == {"text": "text"}
    assert of_mri(("mri", "frontal")) == {"text": "text"}, "which is no partner of it"
    assert of_mri(("mri", "ct"), coupling="none") == {"text": "text"}
    assert of_mri(("mri",), given={"ct": None}) == {"text": "text"}, "a given CT does not know the prompt"
    assert of_mri(("mri", "ct"), unguided=("mri",)) == {"text": "text"}, "it does not follow CT at context scale 0"
    deaf = Trained(mri=[["mri", "ct", False]])
    assert conditioning_graph(deaf, ("mri", "ct"), prompts=("text",)).prompts["mri"] == {"text": "text"}


# F3: outputs that are finished first ---------------------------------------------------------------------------------
def test_an_output_that_is_finished_first_prompts_the_others():
    graph = conditioning_graph(Trained(), ("text", "ct", "mri"), given={"lateral": None}, first=("text",))
    assert graph.first == ("text",)
    assert graph.prompts == {"text": {}, "ct": {"text": "text"}, "mri": {}}
    assert graph.reasons["ct"]["text"] == Reason.PROMPT
    assert graph.reasons["text"]["ct"] == Reason.LATER
    assert graph.partners == {"text": (), "ct": ("mri",), "mri": ("ct",)}
    assert graph.inputs() == {name: set() for name in graph.outputs}, "it is made here, and no input"


def test_what_the_first_output_depends_on_reaches_the_others():
    pairs = Trained()
    pairs.trained_pairs = (("text", "lateral"), ("ct", "mri"))
    graph = conditioning_graph(pairs, ("text", "ct"), prompts=("mri",), given={"lateral": None}, first=("text",))
    assert graph.prompts == {"text": {}, "ct": {"mri": "mri", "text": "text"}}
    assert graph.inputs() == {"text": {"given lateral"}, "ct": {"mri", "given lateral"}}


@pytest.mark.parametrize(
    ("outputs", "more"),
    [
        (("text", "ct"), {"coupling": "none"}),
        (("text",), {"prompts": ("text",)}),
        (("text",), {}),
        (("ct", "frontal"), {}),
        (("mri", "ct"), {"first": ("mri",)}),
    ],
)
def test_nothing_waits_for_a_given_prompt_nor_for_what_cannot_prompt(outputs, more):
    assert conditioning_graph(Trained(), outputs, **{"first": ("text",), **more}).first == ()


def test_an_output_that_is_prompted_by_a_sentence_of_itself_comes_last():
    """A report for which a sentence was given: images follow the sentence, and the report follows the images."""
    outputs = ("text", "ct", "mri")
    assert conditioning_graph(Trained(), outputs, prompts=("text",)).first == (), "as `first` is empty"
    assert conditioning_graph(Trained(), outputs, prompts=("ct",), first=("text",)).first == ("text",)
    graph = conditioning_graph(Trained(), outputs, prompts=("text",), first=("text",))
    assert graph.first == ("ct", "mri"), "MRI cannot prompt here, but it is a partner of CT"
    assert graph.partners["ct"] == ("mri",)
    assert graph.prompts["ct"] == {"text": "text"}
    assert "ct" in {**graph.reasons["text"]}
    assert graph.reasons["text"]["ct"] == Reason.PROMPT
    assert graph.reasons["ct"]["text"] == Reason.LATER


def test_an_unused_input_is_refused_with_the_reasons():
    bundle = Trained()
    graph = conditioning_graph(bundle, ("ct",), prompts=("xray",), given={"lateral": None})
    with pytest.raises(
        UserError, match=r"--prompt xray: is not used by any output \(prompts by output: ct ← mri, text"
    ):
        require_used_prompts(bundle, graph, ("xray",))
    expected = r"--condition lateral: is not used by any output with --coupling auto \(ct: pair is not trained; trained"
    with pytest.raises(UserError, match=expected + r" partners: ct ← mri\)"):
        require_used_conditions(bundle, graph, ("lateral",), "auto")


# E6b: prompts of neighbours and of others ----------------------------------------------------------------------------
def prompt(pooled):
    pooled = torch.tensor([pooled])
    return Prompt(tokens=torch.randn(1, 5, 2), pooled=pooled, mask=torch.ones(1, 5, dtype=torch.bool))


def routed(output, prompts):
    return routed_prompts(Trained(), route_prompts(Trained(), output, prompts), prompts)


def test_the_prompt_of_a_neighbour_is_read_whole():
    ct = prompt([0.0, 1.0])
    assert routed("mri", {"ct": ct}) == {"ct": ct}


def test_any_other_prompt_with_a_mean_is_read_too():
    ct, text = prompt([0.0, 1.0]), prompt([0.8, 0.6])
    assert routed("mri", {"text": text}) == {"text": text}
    assert routed("mri", {"ct": ct, "text": text}) == {"ct": ct, "text": text}
    assert routed("mri", {"xray": prompt([1.0, 0.0])}) == {}, "its mean is not known"
    assert routed("frontal", {"text": text}) == {}, "an output without sources was trained without prompts"


def test_an_output_never_prompts_itself():
    assert routed("ct", {"ct": prompt([0.0, 1.0])}) == {}
