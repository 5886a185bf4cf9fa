"""A trained model in Python: studies as the command writes them, vectors, and one line for a wrong input."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

from core.config.installation import load_installation
from core.contract.modality import PackagedModel
from core.errors import MedWeaveWarning, UserError
from core.generate.__main__ import main as generate
from core.model.model import load
from core.testing.toy import ToyReader
from core.train import main as train
from core.types import Sample

TRAIN = ["--flow", "toy_vector-toy_grid", "--data", "toy", "--steps", "3", "--run", "run"]
TRAIN += ['--set=training.measure.only=["shared space"]', "--set=sampler.steps=3"]
VECTOR = np.array([0.3, -0.2, 0.5, 0.1])


@pytest.fixture(scope="module")
def run(work_folder):
    train(TRAIN)
    return work_folder / "run"


@pytest.fixture(scope="module")
def model(run):
    return load(run)


def test_a_study_holds_what_the_command_writes(model, run, tmp_path):
    generate(["--run", str(run), "--out", str(tmp_path / "out"), "--num", "3", "--seed", "5"])
    studies = model.generate(num=3, seed=5)
    assert [study.index for study in studies] == [0, 1, 2]
    for study in studies:
        folder = tmp_path / f"out/{study.index:04d}"
        assert set(study) == {"toy_vector", "toy_grid"}
        for name in study:
            written = ToyReader(name).read(folder / f"{name}.toy")
            np.testing.assert_array_equal(study[name], written.data)
        saved = study.save(tmp_path / "saved" / str(study.index))
        assert sorted(path.name for path in saved.iterdir()) == sorted(path.name for path in folder.iterdir())
        for name in study:
            with safe_open(saved / f"{name}.toy", "np") as ours, safe_open(folder / f"{name}.toy", "np") as theirs:
                assert ours.metadata() == theirs.metadata(), "they came about in the same way"


def test_a_study_does_not_depend_on_how_many_are_made(model):
    (one,) = model.generate(seed=5)
    first, *_ = model.generate(num=4, seed=5, batch=3)
    for name in one:
        np.testing.assert_allclose(one[name], first[name], atol=1e-5)
    (other,) = model.generate(seed=6)
    assert not np.allclose(one["toy_grid"], other["toy_grid"])


def test_conditions_and_prompts_may_be_arrays_samples_and_files(model, tmp_path):
    picture = model.generate(seed=1)[0].samples["toy_grid"]
    for given in (picture, picture.data, picture.data[0]):
        (study,) = model.generate(conditions={"toy_grid": given})
        assert set(study) == {"toy_vector"}
        assert study.provenance("toy_vector").prompts["given toy_grid"].startswith("sha256:")
    (study,) = model.generate(prompts={"toy_vector": VECTOR}, outputs=["toy_grid"])
    assert study.provenance("toy_grid").prompts.keys() == {"toy_vector"}
    saved = model.generate(outputs=["toy_grid"], seed=1)[0].save(tmp_path / "made")
    (study,) = model.generate(conditions={"toy_grid": saved / "toy_grid.toy"})
    assert set(study) == {"toy_vector"}


def test_geometry_provenance_and_picture(model):
    (study,) = model.generate(seed=2)
    assert study.geometry("toy_grid").shape == (8, 8)
    assert study.geometry("toy_vector") is None
    assert study.provenance("toy_grid").seed == 2
    assert study.picture().size[0] > 2 * 192
    assert repr(study) == "<Study 0: toy_vector: 4; toy_grid: 1 x 8 x 8>"
    with pytest.raises(UserError, match="no output of this study 'ct'"):
        study.geometry("ct")
    with pytest.raises(KeyError):
        study["ct"]


def test_a_callback_sees_every_step(model):
    seen = []
    model.generate(num=3, batch=2, callback=lambda step: seen.append((step.step, tuple(step.indices), step.outputs)))
    assert [step for step, _, _ in seen] == [0, 1, 2, 0, 1, 2]
    assert {indices for _, indices, _ in seen} == {(0, 1), (2,)}
    steps = []
    (study,) = model.generate(outputs=["toy_grid"], callback=steps.append)
    last = steps[-1].estimate("toy_grid")
    np.testing.assert_allclose(last[0], study.shown["toy_grid"].data, atol=1e-5)
    assert steps[-1].steps == 3


def test_an_output_that_is_finished_first_prompts_the_others_with_what_it_became(model):
    (both,) = model.generate(seed=3, first=["toy_vector"])
    (vector,) = model.generate(seed=3, outputs=["toy_vector"])
    np.testing.assert_allclose(both["toy_vector"], vector["toy_vector"], atol=1e-6)
    prompt = {"toy_vector": vector.samples["toy_vector"]}
    (grid,) = model.generate(prompt, seed=3, outputs=["toy_grid"])
    np.testing.assert_allclose(both["toy_grid"], grid["toy_grid"], atol=1e-4)
    (at_once,) = model.generate(seed=3)
    assert not np.allclose(both["toy_grid"], at_once["toy_grid"], atol=1e-3)
    assert both.provenance("toy_grid").prompts == {}, "nothing was given"
    assert both.provenance("toy_grid").sampling["first"] == "toy_vector"


def test_settings_of_the_sampler(model):
    (study,) = model.generate(steps=2, solver="euler", scale={"toy_grid": 3.0})
    sampling = study.provenance("toy_grid").sampling
    assert (sampling["steps"], sampling["solver"], sampling["scale"]) == ("2", "euler", "toy_grid=3.0")


def test_vectors_of_the_shared_space_and_their_neighbours(model):
    vectors = model.embed("toy_vector", [VECTOR, -VECTOR, 2 * VECTOR])
    assert vectors.shape[0] == 3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.embed("toy_vector", VECTOR)[0], vectors[0], atol=1e-6)
    numbers, cosines = model.retrieve(vectors[1], vectors, k=2)
    assert numbers[0] == 1
    assert cosines[0] == pytest.approx(1)
    both, _ = model.retrieve(vectors[:2], vectors, k=3)
    assert both.shape == (2, 3)


def test_what_it_can_make_from_what(model):
    described = model.describe()
    assert described["toy_grid"].prompts == ("toy_vector",)
    assert described["toy_grid"].partners == ("toy_vector",)
    assert described["toy_grid"].unpaired_prompts == ()
    assert str(described).splitlines()[0].split("  ")[0] == "output"
    assert len(str(described).splitlines()) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num": 0}, "num and batch are 1 or more"),
        ({"seed": -1}, "seed 0 or more"),
        ({"steps": 0}, "generate: steps: Input should be greater than or equal to 1"),
        ({"stepz": 3}, "did you mean 'steps'?"),
        ({"scale": {"toy_gird": 3.0}}, "did you mean 'toy_grid'?"),
        ({"first": ["toy_vectr"]}, "no modality for sampler.first 'toy_vectr'"),
        ({"prompt_weights": {"toy_vector": 2.0}}, "no prompt for --prompt-weight 'toy_vector' (given: none)"),
        ({"outputs": ["ct"]}, "'ct' is not what this run makes"),
        ({"outputs": []}, "nothing is left to generate"),
        ({"prompts": {"toy_vectr": VECTOR}}, "did you mean 'toy_vector'?"),
        ({"conditions": {"toy_grid": np.zeros((7, 8))}}, "is not on the grid of toy_grid, 8 x 8"),
        ({"conditions": {"toy_grid": np.full((8, 8), np.nan)}}, "is not of finite numbers"),
        ({"conditions": {"toy_grid": Path("no_such.toy")}}, "no such file; correct the path"),
    ],
)
def test_a_wrong_input_is_one_line(model, settings, message):
    with pytest.raises(UserError) as refused:
        model.generate(**settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_study_is_never_written_over_another(model, tmp_path):
    (study,) = model.generate()
    study.save(tmp_path / "a")
    with pytest.raises(UserError, match="exists already; name a new folder"):
        study.save(tmp_path / "a")
    with pytest.raises(UserError, match="no output has this format"):
        study.save(tmp_path / "b", format="dicom")
    assert not (tmp_path / "b").exists()


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is no run folder"):
        load(tmp_path)


def test_a_sample_needs_no_modality_of_its_own(model):
    sample = Sample(modality="whatever", data=VECTOR.astype(np.float32))
    assert json.dumps(model.embed("toy_vector", sample).tolist()) == json.dumps(
        model.embed("toy_vector", VECTOR).tolist()
    )


def test_another_package_of_plugins_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("core.shadowed_plugins", "/x/plugins: another package 'plugins' is left alone")
    with pytest.warns(MedWeaveWarning, match="another package 'plugins' is left alone"), pytest.raises(UserError):
        load(tmp_path)


def test_a_packaged_name_is_a_model_and_a_folder_goes_before_it(run, tmp_path, monkeypatch):
    bundle = PackagedModel(name="small", title="S", folder=run)
    catalog = load_installation().catalog
    monkeypatch.setattr(
        "core.model.model.load_installation",
        lambda: SimpleNamespace(catalog=replace(catalog, models={"small": bundle})),
    )
    monkeypatch.chdir(tmp_path)
    assert load("small").outputs == load(run).outputs
    (tmp_path / "small").mkdir()
    with pytest.raises(UserError, match="small: is no run folder"):
        load("small")
