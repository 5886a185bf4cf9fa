"""What a generated file names as its inputs: what its output depends on, and no more."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.config.recipe import SamplerChoice
from core.errors import UserError
from core.generate import request, write
from core.generate.inputs import InputBatch
from core.generate.output.study_record import StudyRecord
from core.generate.output.writers import StudyNotes, write_study
from core.io.dicom.new_instance import patient_id, study_uid
from core.io.geometry import centred
from core.types import Prompt, Provenance, Sample

SOURCES = {"xray": ("text",), "ct": ("text", "mri"), "mri": ("ct",)}
OUTPUTS = ("xray", "mri")
SLICE = centred((4, 4), (1.0, 1.0), "PL")
WHERE = {"slice": SLICE}
PLANES = {"xray": None, "mri": SLICE}


class ProvenanceWriter:
    """A writer that writes the provenance alone."""

    suffix = ".txt"

    def write(self, sample, path, provenance):
        path.write_text(provenance.model_dump_json())


def new_bundle(uncoupled=()):
    prompt = SimpleNamespace(form="pooled_and_neighbour_tokens")
    config = SimpleNamespace(prompt=prompt, run=SimpleNamespace(resolve=lambda: SimpleNamespace(name="m")), recipe="r")
    flows = SimpleNamespace(union=SimpleNamespace(modalities=("text", *SOURCES)))
    return SimpleNamespace(
        run=SimpleNamespace(
            config=config,
            flows=flows,
            outputs=OUTPUTS,
            prompt_sources=SOURCES.__getitem__,
            parts=lambda name: SimpleNamespace(data=SimpleNamespace(default_geometry=PLANES[name])),
        ),
        networks=SimpleNamespace(trained=lambda key: True, compute=SimpleNamespace(device="cpu")),
        key=lambda name, part: f"{name}.{part}",
        mean_prompt=lambda name: (),  # a prompt stands for no other source
        coupled=lambda name: name not in uncoupled,
        trained_pairs=(("ct", "mri"),),
        uses=lambda receiver, sender: True,
        findings_of=None,
    )


@pytest.fixture
def recorded_by(monkeypatch, tmp_path):
    """The inputs that the file of every output names, and those in ``generate.json``."""
    prompt = Prompt(tokens=torch.zeros(1, 1, 2), pooled=torch.zeros(1, 2), mask=torch.ones(1, 1, dtype=torch.bool))
    monkeypatch.setattr(
        request,
        "read_input",
        lambda bundle, flag, name, value, keep: InputBatch(batch=None, shown=value, geometry=WHERE.get(value)),
    )
    monkeypatch.setattr(request, "encoded_prompt", lambda bundle, name, batch: prompt)
    writers = {name: ProvenanceWriter() for name in OUTPUTS}
    monkeypatch.setattr(request, "weights_name", lambda bundle: "w")

    def call(bundle, sampler=None, **changed):
        sampler = sampler or SamplerChoice(solver="ddim", steps=2, eta=0.0, scale=2.0)
        settings = {"outputs": OUTPUTS, "sampler": sampler, "given": {}, **changed}
        resolved = request.resolve_request(bundle, request.GenerationRequest(**settings))
        samples = {name: Sample(modality=name, data=np.zeros((1, 4, 4), np.float32)) for name in OUTPUTS}
        write_study(resolved, writers, 3, samples, "a", StudyNotes(labels={"effusion": "1"}, split="test"), tmp_path)
        files = {name: Provenance.model_validate_json((tmp_path / f"{name}.txt").read_text()) for name in OUTPUTS}
        assert {provenance.index for provenance in files.values()} == {3}
        assert len({(study_uid(provenance), patient_id(provenance)) for provenance in files.values()}) == 1
        record = StudyRecord.read(tmp_path)
        assert (record.study_id, record.index, record.split, record.labels_from) == ("a", 3, "test", "table")
        assert record.patient_id == patient_id(files["mri"])
        inputs = {name: dict(provenance.prompts) for name, provenance in files.items()}
        return inputs, write._command(resolved, writers, None).settings

    return call


@pytest.mark.parametrize("coupling", ["auto", "trained"])
def test_a_file_names_the_inputs_of_its_output(recorded_by, coupling):
    given = {"ct": "scan"}
    files, command = recorded_by(new_bundle(), prompts={"text": "words", "ct": "other"}, given=given, coupling=coupling)
    assert files == {"xray": {"text": "words"}, "mri": {"ct": "other", "given ct": "scan"}}
    # What decides whether a folder is resumed.
    assert command["prompts"] == {"text": "words", "ct": "other", "given ct": "scan"}
    assert command["sampling"]["coupling"] == coupling


def test_with_all_pairs_coupled_every_trained_output_depends_on_all_that_is_given(recorded_by):
    settings = {"prompts": {}, "given": {"ct": "scan"}, "coupling": "all"}
    assert recorded_by(new_bundle(), **settings)[0] == {"xray": {"given ct": "scan"}, "mri": {"given ct": "scan"}}
    uncoupled = recorded_by(new_bundle(uncoupled=("xray",)), **settings)[0]
    assert uncoupled == {"xray": {}, "mri": {"given ct": "scan"}}


def test_inputs_of_partners_are_named_too(recorded_by):
    """The MRI does not read the report, but the X-ray does, and the MRI reads the X-ray."""
    settings = {"prompts": {"text": "words"}, "given": {}}
    assert recorded_by(new_bundle(), **settings, coupling="none")[0] == {"xray": {"text": "words"}, "mri": {}}
    coupled = recorded_by(new_bundle(), **settings, coupling="all")[0]
    assert coupled == {"xray": {"text": "words"}, "mri": {"text": "words"}}


def test_the_image_whose_grid_is_taken_is_named(recorded_by):
    """The MRI has no trained attention, and lies where the slice does all the same."""
    settings = {"prompts": {}, "given": {"ct": "slice"}, "coupling": "all"}
    assert recorded_by(new_bundle(uncoupled=("mri",)), **settings)[0]["mri"] == {"given ct": "slice"}


def test_all_settings_of_guidance_are_recorded(recorded_by):
    sampler = SamplerChoice(
        steps=2, scale={"mri": 4, "default": 2.5}, context_scale=3, interval=(-4, 3), rescale=0.7, lead={"xray": 0.5}
    )
    settings = {"prompts": {"text": "words", "ct": "scan"}, "prompt_weights": {"text": 2.0}, "coupling": "none"}
    _, command = recorded_by(new_bundle(), sampler=sampler, **settings)
    assert command["sampling"] == {
        "solver": "ddim",
        "steps": "2",
        "eta": "0.0",
        "scale": "default=2.5,mri=4.0",
        "context_scale": "3.0",
        "guidance_order": "context_first",
        "interval": "-4.0,3.0",
        "rescale": "0.7",
        "lead": "xray=0.5",
        "first": "none",
        "coupling": "none",
        "prompt_weights": "text=2.0",
    }
    assert "interval" in recorded_by(new_bundle(), prompts={}, coupling="none")[1]["sampling"]


def test_a_negative_prompt_is_recorded_where_guidance_reads_it(recorded_by):
    settings = {"prompts": {}, "negative": {"text": "words", "ct": "scan"}, "coupling": "none"}
    files, command = recorded_by(new_bundle(), sampler=SamplerChoice(scale={"xray": 3.0}), **settings)
    assert files == {"xray": {"negative text": "words"}, "mri": {}}, "the scale of mri is 1"
    assert command["prompts"] == {"negative text": "words", "negative ct": "scan"}


@pytest.mark.parametrize(
    ("sampler", "request_", "message"),
    [
        (SamplerChoice(), {"negative": {"text": "words"}}, "--negative-prompt: stands for the null prompt, which"),
        (SamplerChoice(scale=2), {"negative": {"xray": "a"}}, "--negative-prompt xray: is not used by any output"),
        (
            SamplerChoice(scale={"xray": 0}),
            {"prompts": {"text": "a"}},
            "--guidance-scale 0: leaves every prompt of xray",
        ),
    ],
)
def test_a_prompt_that_no_guidance_reads_is_refused(recorded_by, sampler, request_, message):
    bundle = new_bundle()
    bundle.run.flows.union.modalities = ("text", "xray", "ct", "mri")
    with pytest.raises(UserError, match=re.escape(message)):
        recorded_by(bundle, sampler=sampler, **{"prompts": {}, "coupling": "none", **request_})
