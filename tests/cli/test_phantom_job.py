"""The main job on a small phantom cohort, a few steps of every phase, and what it generates."""

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from core.contract.discovery import discover
from core.errors import UserError
from core.generate.__main__ import main
from core.types import Geometry, Provenance, Sample

FLOW = ["--flow", "text-xray,text-ct,ct-mri"]
SHORT = ["--steps", "10", "--set", "training.log_every=1"]
for setting in ("samples=8", "steps=2", "judge_epochs=1"):
    SHORT += ["--set", f"training.measure.{setting}"]
GOLDEN_LOSSES = Path(__file__).parents[1] / "golden/tiny_losses.json"  # written by tests/golden/write_tiny_losses.py
pytestmark = pytest.mark.timeout(900)  # the first test trains and measures
OUTPUTS = ("xray_frontal", "xray_lateral", "ct", "mri")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("phantom_job")


@pytest.fixture
def trained(run, folder):
    """A cohort of 48 patients and a run on it, made once."""
    if not (folder / "out.txt").exists():
        made = run("core.prepare", "phantom", "--num", "48", "--quiet", cwd=folder)
        assert made.returncode == 0, made.stderr
        result = run("core.train", *FLOW, *SHORT, cwd=folder, timeout=800)
        assert result.returncode == 0, result.stderr
        (folder / "out.txt").write_text(result.stdout)
    return folder


def test_every_phase_and_measure_ran(trained):
    stages = json.loads((trained / "runs/medweave-tiny/progress.json").read_text())["stages"]
    assert [name for name in stages if name.startswith(("align", "guide", "joint"))] == [
        *(f"align {edge}" for edge in ("1 text-xray", "2 text-ct", "3 ct-mri")),
        "joint all flows",
    ]
    assert (trained / "runs/medweave-tiny/plan.txt").read_text().startswith("MedWeave plan")
    table = (trained / "out.txt").read_text()
    for phrase in (
        "xray_frontal → mri retrieval, R@5, seen together",
        "text: autoencoder, all findings preserved",
        "mri ← ct: reduction vs. mismatched patient, trained pair",
        "mri ← xray_frontal: reduction vs. mismatched patient, trained pair",
        "ct and mri: outline Dice, generated, no prompt",
        "all coupled pairs, prompted by text: cosine, real studies",
        "all coupled pairs, prompted by text: cosine, joint minus independent",
        "mri from a given ct: SSIM gained",
    ):
        assert phrase in table
    assert "next: python -m core.generate" in table


def test_the_first_losses_of_every_stage_are_the_golden_ones(trained):
    """Ten losses of `tiny` a stage: whoever changes what is computed must say so by writing them anew."""
    golden = json.loads(GOLDEN_LOSSES.read_text())
    losses = {}
    for line in (trained / "runs/medweave-tiny/metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        losses.setdefault(row["phase"], []).append(row["loss"])
    assert list(losses) == list(golden)
    for stage, expected in golden.items():
        assert len(expected) == 10
        # Processors round differently, and ten steps let that grow.
        assert losses[stage][:10] == pytest.approx(expected, rel=1e-3, abs=1e-4), stage


def test_a_prompt_becomes_files_of_every_modality(trained, run):
    prompt = 'text="Small left pleural effusion."'
    arguments = ("--prompt", prompt, "--output", "xray,ct,mri", "--num", "2", "--steps", "3", "--out", "made")
    result = run("core.generate", *arguments, cwd=trained)
    assert result.returncode == 0, result.stderr
    for name in OUTPUTS:
        parts = discover().modalities[name].parts("tiny")
        (path,) = (trained / "made/0001").glob(f"{name}.*[!json]")
        sample = parts.reader.build().read(path)
        assert sample.meta["synthetic"] is True
        assert sample.geometry.orientation == parts.data.default_geometry.orientation
        canonical = parts.preprocess.build().apply(sample)
        assert canonical.data.shape == (1, 64, 64)
        assert sample.meta["provenance"]["prompts"] == {"text": '"Small left pleural effusion."'}
        (notes,) = (trained / "made/0001").glob(f"{name}.*.json")
        assert json.loads(notes.read_text())["modality"] == name
    with Image.open(trained / "made/contact_sheet.png") as sheet:
        command = json.loads(sheet.text["MedWeave command"])
    assert (command["seed"], command["prompts"]) == (0, {"text": '"Small left pleural effusion."'})


def test_what_follows_a_given_slice_lies_where_it_lies(trained, monkeypatch):
    monkeypatch.chdir(trained)
    affine = np.array([[0, -9.0, 0, 200], [-9.0, 0, 0, 180], [0, 0, 4.0, -690], [0, 0, 0, 1]])
    place = Geometry(affine=affine, shape=(40, 48))
    parts = {name: discover().modalities[name].parts("tiny") for name in OUTPUTS}
    scan = Sample(modality="ct", data=np.zeros((1, 40, 48), np.float32), geometry=place)
    parts["ct"].writer.build().write(scan, trained / "given.nii.gz", Provenance(model="m", recipe="r", seed=0, index=0))
    arguments = ("--condition", "ct=given.nii.gz", "--output", "xray,mri", "--coupling", "trained", "--num", "1")
    main([*arguments, "--steps", "2", "--out", "followed"])
    found = parts["mri"].reader.build().read(trained / "followed/0000/mri.nii.gz").geometry
    assert found.shape == place.shape
    assert np.allclose(found.affine, affine, atol=1e-4)
    notes = json.loads((trained / "followed/0000/xray_frontal.png.json").read_text())
    assert np.array_equal(notes["affine"], parts["xray_frontal"].data.default_geometry.affine)


def test_a_study_is_written_as_dicom(trained, monkeypatch):
    """One study for a PACS: the same order gives the same bytes, and the manifest leads our readers to it."""
    monkeypatch.chdir(trained)
    arguments = ("--output", "text,xray,ct,mri", "--num", "2", "--steps", "2", "--format", "dicom")
    for name in ("dicom", "again"):
        main([*arguments, "--out", name])
    files = sorted((trained / "dicom").glob("*/*.dcm"))
    assert len(files) == 10
    for path in files:
        assert path.read_bytes() == (trained / "again" / path.relative_to(trained / "dicom")).read_bytes()
    first, second = discover().datasets["manifest"].scan(trained / "dicom")
    studies = []
    for record in (first, second):
        instances = [pydicom.dcmread(path) for (path,) in record.files.values()]
        assert {one.Modality for one in instances} == {"SR", "DX", "CT", "MR"}
        assert all(one[0x0008, 0x001C].value == "YES" for one in instances)
        (study,) = {one.StudyInstanceUID for one in instances}
        studies.append(study)
        for name, (path,) in record.files.items():
            sample = discover().modalities[name].parts("tiny").reader.build().read(path)
            assert sample.meta["provenance"]["versions"]["weights"].startswith("sha256:")
    assert studies[0] != studies[1]


def test_a_script_of_monai_trains_on_a_generated_data_list(trained, run):
    """The script of the page, without our code, on studies of a table whose labels the labeller reads in the prompt."""
    rows = [
        f"p{number},{prompt}"
        for number, prompt in enumerate(["Small left pleural effusion.", "No pleural effusion."] * 2)
    ]
    (trained / "prompts.csv").write_text("\n".join(["study_id,prompt.text", *rows]) + "\n")
    arguments = ("--table", "prompts.csv", "--output", "ct,mri", "--steps", "2", "--workers", "1", "--out", "studies2")
    result = run("core.generate", *arguments, cwd=trained)
    assert result.returncode == 0, result.stderr
    items = json.loads((trained / "studies2/datalist.json").read_text())["training"]
    assert [item["labels"]["pleural_effusion"] for item in items] == ["1", "0", "1", "0"]
    assert json.loads((trained / "studies2/p0/study.json").read_text())["labels_from"] == "prompt"
    page = (Path(__file__).parents[2] / "docs/how-to/generate_from_a_table.md").read_text(encoding="utf-8")
    code = page.partition("<!-- monai -->\n```python\n")[2].partition("```")[0].replace("studies/", "studies2/")
    result = run(
        sys.executable,
        "-c",
        f"{code}\nprint('loss', float(loss)); assert 'core' not in __import__('sys').modules",
        cwd=trained,
    )
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split("loss ")[1]) < 2


def test_a_format_that_no_output_has_is_refused(trained, monkeypatch):
    monkeypatch.chdir(trained)
    with pytest.raises(UserError, match=r"--format bids: no output has this format \(they have: dicom\)"):
        main(["--output", "ct,mri", "--format", "bids", "--out", "bids"])
    assert not (trained / "bids").exists()


def test_reports_are_written_too(trained, run):
    result = run("core.generate", "--output", "text", "--num", "1", "--steps", "3", "--out", "told", cwd=trained)
    assert result.returncode == 0, result.stderr
    assert (trained / "told/0000/text.txt").read_text().splitlines()[-1].startswith("SYNTHETIC")
