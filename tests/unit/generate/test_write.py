"""What a generated file says that it was made of: what its own output heard, and no more."""

from types import SimpleNamespace

import pytest
import torch

from core.config.recipe import SamplerChoice
from core.generate import write
from core.generate.inputs import Told
from core.io.dicom.new_instance import patient_id, study_uid
from core.io.geometry import centred
from core.types import Prompt

SOURCES = {"xray": ("text",), "ct": ("text", "mri"), "mri": ("ct",)}
OUTPUTS = ("xray", "mri")
SLICE = centred((4, 4), (1.0, 1.0), "PL")
WHERE = {"slice": SLICE}
PLANES = {"xray": None, "mri": SLICE}


class Noted:
    """A writer that keeps the provenance alone."""

    suffix = ".txt"

    def write(self, sample, path, provenance):
        path.write_text(provenance.model_dump_json())


def new_bundle(deaf=()):
    config = SimpleNamespace(run=SimpleNamespace(resolve=lambda: SimpleNamespace(name="m")), recipe="r")
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
        mean_prompt=lambda name: (),  # no stranger is heard
        coupled=lambda name: name not in deaf,
        trained_pairs=(("ct", "mri"),),
        helps=lambda receiver, sender: True,
    )


@pytest.fixture
def told_by(monkeypatch, tmp_path):
    """What the file of every output says, and what ``generate.json`` does."""
    prompt = Prompt(tokens=torch.zeros(1, 1, 2), pooled=torch.zeros(1, 2), mask=torch.ones(1, 1, dtype=torch.bool))
    monkeypatch.setattr(
        write,
        "read_told",
        lambda bundle, flag, name, value, keep: Told(batch=None, shown=value, geometry=WHERE.get(value)),
    )
    monkeypatch.setattr(write, "encoded_prompt", lambda bundle, name, batch: prompt)
    monkeypatch.setattr(write, "writers_of", lambda run, outputs, format: {name: Noted() for name in outputs})
    monkeypatch.setattr(write, "_weights", lambda bundle: "w")

    def call(bundle, **order):
        sampler = SamplerChoice(solver="ddim", steps=2, eta=0.0, scale=2.0)
        job = write._job(bundle, write.Order(**{"outputs": OUTPUTS, "sampler": sampler, "given": {}, **order}))
        write._write(job, 3, dict.fromkeys(OUTPUTS), tmp_path)
        files = {name: write.Provenance.model_validate_json((tmp_path / f"{name}.txt").read_text()) for name in OUTPUTS}
        assert {one.index for one in files.values()} == {3}
        assert len({(study_uid(one), patient_id(one)) for one in files.values()}) == 1
        return {name: dict(one.prompts) for name, one in files.items()}, write._command(job).settings["prompts"]

    return call


@pytest.mark.parametrize("couple", ["helpful", "trained"])
def test_a_file_names_what_its_output_heard(told_by, couple):
    given = {"ct": "scan"}
    files, command = told_by(new_bundle(), prompts={"text": "words", "ct": "other"}, given=given, couple=couple)
    assert files == {"xray": {"text": "words"}, "mri": {"ct": "other", "given ct": "scan"}}
    assert command == {"text": "words", "ct": "other", "given ct": "scan"}  # what decides whether to go on


def test_all_that_can_listen_hear_all_that_is_given(told_by):
    order = {"prompts": {}, "given": {"ct": "scan"}, "couple": "all"}
    assert told_by(new_bundle(), **order)[0] == {"xray": {"given ct": "scan"}, "mri": {"given ct": "scan"}}
    assert told_by(new_bundle(deaf=("xray",)), **order)[0] == {"xray": {}, "mri": {"given ct": "scan"}}


def test_what_partners_heard_comes_with_them(told_by):
    """The MRI does not hear the report, but the X-ray does, and the MRI listens to the X-ray."""
    order = {"prompts": {"text": "words"}, "given": {}}
    assert told_by(new_bundle(), **order, couple="none")[0] == {"xray": {"text": "words"}, "mri": {}}
    coupled = told_by(new_bundle(), **order, couple="all")[0]
    assert coupled == {"xray": {"text": "words"}, "mri": {"text": "words"}}


def test_the_image_whose_grid_is_taken_is_named(told_by):
    """The MRI has not learned to listen, and lies where the slice does all the same."""
    order = {"prompts": {}, "given": {"ct": "slice"}, "couple": "all"}
    assert told_by(new_bundle(deaf=("mri",)), **order)[0]["mri"] == {"given ct": "slice"}
