"""The main job from nothing, as a user runs it."""

import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from core.contract.discovery import discover
from core.errors import UserError
from core.generate import write as generate_write
from core.generate.__main__ import main

FLOW = ["--flow", "toy_vector-toy_grid", "--data", "toy"]
ENV = {"OMP_NUM_THREADS": "1"}  # tiny tensors: on a busy machine a second thread costs minutes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("job")


@pytest.fixture
def trained(run, folder):
    """The toy run at its own sizes, made once."""
    if not (folder / "runs").exists():
        # The recipe's short `diffuse` is for images; its joint round goes on with it.
        result = run("core.train", *FLOW, "--set", "training.diffuse.steps=800", cwd=folder, env=ENV)
        assert result.returncode == 0, result.stderr
        (folder / "out.txt").write_text(result.stdout)
        (folder / "err.txt").write_text(result.stderr)
    return folder


@pytest.fixture
def generate(trained, monkeypatch):
    """``core.generate`` in this process, beside the run."""
    monkeypatch.chdir(trained)
    return lambda *arguments: main(arguments)


@pytest.fixture
def vector(trained):
    """A real file of toy_vector."""
    record = next(record for record in discover().datasets["toy"].scan(trained / "data/toy"))
    return str(record.files["toy_vector"][0])


def rows(folder):
    return [json.loads(line) for line in (folder / "runs/medweave-tiny/metrics.jsonl").read_text().splitlines()]


def test_it_learns(trained):
    losses = {}
    for row in rows(trained):
        losses.setdefault(row["phase"], []).append(row["loss"])
    assert set(losses) == {
        "autoencoder toy_vector.autoencoder",
        "autoencoder toy_grid.autoencoder",
        "align 1 toy_vector-toy_grid",
        "diffuse toy_vector.denoiser",
        "diffuse toy_grid.denoiser",
        "joint all flows",
    }
    for phase, values in losses.items():
        # Most of what guide minimises is noise that no partner can foretell.
        share = 0.97 if phase.startswith("joint") else 0.7
        assert sum(values[-3:]) / 3 < share * values[0], f"{phase} did not learn: {values[0]} to {values[-3:]}"


def test_held_out_pairs_find_each_other(trained):
    (line,) = [line for line in (trained / "out.txt").read_text().splitlines() if "R@5, held out" in line]
    recall, chance = float(line.split()[-3]), float(line.split()[-1])
    assert recall > 4 * chance, line


def test_the_table_has_every_measure_that_the_toys_allow(trained):
    table = (trained / "out.txt").read_text()
    for phrase in (
        "toy_grid → toy_vector retrieval, R@5, paired",
        "toy_grid: autoencoder, PSNR dB",
        "toy_vector ← toy_grid: reduction vs. mismatched patient, trained pair",
        "no prompt: cosine, joint minus independent",
    ):
        assert phrase in table


def test_the_run_folder_is_complete(trained):
    run = trained / "runs/medweave-tiny"
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    other = [name for name in names if not name.endswith((".safetensors", ".json", ".jsonl", ".toml"))]
    pictures = [f"samples/{name}.png" for name in ("real", "reconstructed", "unprompted")]
    assert other == ["plan.txt", "report.html", *pictures]
    with Image.open(run / pictures[0]) as real, Image.open(run / pictures[-1]) as generated:
        assert not real.text
        made = json.loads(generated.text["MedWeave command"])
    assert (made["recipe"], made["seed"], made["sampling"]["solver"]) == ("medweave", 0, "dpmpp_2m")
    report = (run / "report.html").read_text()
    assert "toy_grid → toy_vector retrieval" in report
    assert report.count("data:image/png;base64,") == 3
    assert "<script" not in report
    assert "autoencoder/toy_grid.autoencoder/weights.safetensors" in names
    about = json.loads((run / "autoencoder/toy_grid.autoencoder/about.json").read_text())
    assert len(about["latents"]["toy_grid"]["scale"]) == 2
    assert tomllib.loads((run / "config.toml").read_text())["recipe"] == "medweave"


def test_the_configuration_repeats_the_run_bit_for_bit(trained, run):
    result = run(
        "core.train",
        "--config",
        "runs/medweave-tiny/config.toml",
        "--run",
        "again",
        "--phase",
        "align",
        cwd=trained,
        env=ENV,
    )
    assert result.returncode == 0, result.stderr
    again = [json.loads(line) for line in (trained / "again/metrics.jsonl").read_text().splitlines()]
    assert again == [row for row in rows(trained) if row["phase"].startswith("align")]


def test_another_seed_is_another_run(trained, run):
    result = run(
        "core.train", *FLOW, "--seed", "1", "--phase", "align", "--steps", "3", "--run", "seeded", cwd=trained, env=ENV
    )
    assert result.returncode == 0, result.stderr
    first = json.loads((trained / "seeded/metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] != next(row for row in rows(trained) if row["phase"].startswith("align"))["loss"]


def values(study):
    readers = {name: discover().modalities[name].parts("tiny").reader.build() for name in ("toy_vector", "toy_grid")}
    return {name: reader.read(study / f"{name}.toy").data for name, reader in readers.items()}


def provenance(path):
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["about"])["provenance"]


def test_generated_studies_are_the_same_in_any_batch_and_say_what_they_are(trained, run):
    for batch in ("1", "3"):
        arguments = ("--num", "3", "--steps", "10", "--seed", "5", "--batch", batch, "--out", f"made{batch}")
        result = run("core.generate", *arguments, cwd=trained, env=ENV)
        assert result.returncode == 0, result.stderr
    for name in ("toy_vector", "toy_grid"):
        with safe_open(trained / f"made1/0000/{name}.toy", "np") as file:
            assert json.loads(file.metadata()["about"])["modality"] == name
    first = values(trained / "made1/0002")
    second = values(trained / "made3/0002")
    other = values(trained / "made3/0001")
    for name in first:
        assert np.abs(first[name] - second[name]).max() < 1e-3
        assert np.abs(first[name] - other[name]).max() > 1e-2
    about = provenance(trained / "made1/0002/toy_grid.toy")
    assert (about["synthetic"], about["seed"], about["index"]) == (True, 5, 2)
    assert (trained / "made3/contact_sheet.png").is_file()
    sampling = {
        "solver": "dpmpp_2m",
        "steps": "10",
        "eta": "0.0",
        "scale": "ct=3.0,default=5.0,mri=3.0,text=9.0",
        "coupling": "auto",
    }
    assert about["sampling"].items() >= sampling.items()
    table = (trained / "made3/manifest.csv").read_text().splitlines()
    assert table[0].startswith("study_id,patient_id,modality,file,split,report,labels,")
    study, patient, *file = table[1].split(",")[:4]
    assert (study, file) == ("0000", ["toy_vector", "0000/toy_vector.toy"])
    assert patient.startswith("MW-"), "as in DICOM files of the study"
    assert len(table) == 7


def test_generated_studies_are_a_data_set(trained, generate):
    generate("--num", "2", "--steps", "2", "--out", "scanned")
    found = list(discover(("manifest",)).datasets["manifest"].scan(trained / "scanned"))
    assert [record.study for record in found] == ["0000", "0001"]
    for record in found:
        files = {name: (trained / "scanned" / record.study / f"{name}.toy",) for name in ("toy_vector", "toy_grid")}
        assert record.files == files
        assert all(path.is_file() for (path,) in files.values())


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_command_resumes_to_the_same_bytes(trained, generate, monkeypatch):
    command = ("--num", "5", "--steps", "2", "--batch", "2")
    generate(*command, "--out", "whole")
    add = generate_write.add_study

    def killed(folder, name, write):
        if name == "0003":
            (folder / ".medweave-0003").mkdir()
            raise KeyboardInterrupt
        add(folder, name, write)

    monkeypatch.setattr(generate_write, "add_study", killed)
    with pytest.raises(KeyboardInterrupt):
        generate(*command, "--out", "killed")
    monkeypatch.undo()
    assert not (trained / "killed/manifest.csv").exists()
    kept = (trained / "killed/0001/toy_grid.toy").stat().st_mtime_ns
    monkeypatch.chdir(trained)
    generate(*command, "--out", "killed")
    assert contents(trained / "killed") == contents(trained / "whole")
    assert (trained / "killed/0001/toy_grid.toy").stat().st_mtime_ns == kept
    assert not list((trained / "killed").glob(".*"))
    with pytest.raises(UserError, match="num: 5 there, 4 requested"):
        generate("--num", "4", "--steps", "2", "--batch", "2", "--out", "killed")
    (trained / "killed/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="more than generated studies"):
        generate(*command, "--out", "killed")
    generate("--num", "2", "--steps", "3", "--out", "killed", "--overwrite")
    names = sorted(path.name for path in (trained / "killed").iterdir())
    tables = ["contact_sheet.png", "datalist.json", "generate.json", "manifest.csv", "metadata.jsonl"]
    assert names == ["0000", "0001", *tables, "notes.txt"]


def test_a_given_partner_and_a_prompt_change_what_is_made(trained, generate, vector):
    made = {}
    for way in ("alone", "--condition", "--prompt"):
        inputs = () if way == "alone" else (way, f"toy_vector={vector}")
        arguments = ("--output", "toy_grid", "--num", "1", "--steps", "10", "--out", f"way{way}", *inputs)
        generate(*arguments)
        path = trained / f"way{way}" / "0000" / "toy_grid.toy"
        made[way] = discover().modalities["toy_grid"].parts("tiny").reader.build().read(path)
    assert np.abs(made["alone"].data - made["--condition"].data).max() > 1e-3
    assert np.abs(made["alone"].data - made["--prompt"].data).max() > 1e-3
    recorded = provenance(trained / "way--prompt/0000/toy_grid.toy")["prompts"]["toy_vector"]
    assert recorded == f"sha256:{hashlib.sha256(Path(vector).read_bytes()).hexdigest()}"


@pytest.mark.parametrize(("coupling", "recorded"), [("none", []), ("trained", ["toy_vector"])])
def test_a_file_names_the_prompts_of_its_output_and_its_partners(trained, generate, vector, coupling, recorded):
    """The vector is no prompt of itself: it depends on one through the grid alone, where that is its partner."""
    out = f"recorded_{coupling}"
    command = ("--prompt", f"toy_vector={vector}", "--num", "1", "--steps", "2", "--coupling", coupling, "--out", out)
    generate(*command)
    study = trained / out / "0000"
    assert list(provenance(study / "toy_grid.toy")["prompts"]) == ["toy_vector"]
    assert list(provenance(study / "toy_vector.toy")["prompts"]) == recorded
    made = (study / "toy_grid.toy").stat().st_mtime_ns
    (trained / out / "manifest.csv").unlink()
    generate(*command)
    assert (study / "toy_grid.toy").stat().st_mtime_ns == made
    assert (trained / out / "manifest.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--run", "nowhere"), "nowhere: is no run folder"),
        (("--run", ""), "the path is empty"),
        (("--output", "toy_gird"), "'toy_gird' is not what this run makes"),
        (("--num", "0"), "--num 0: must be 1 or more"),
        (("--num", "1000001"), "--num 1000001: at most 1000000"),
        (("--prompt", "toy_vector"), "write it as MODALITY=VALUE"),
        (("--prompt", "toy_vector=missing.toy"), "missing.toy"),
        (("--prompt", "text=No effusion."), "modality of this run 'text'"),
        (("--prompt", "toy_grid={file}"), "does not fit modality 'toy_grid'"),
        (
            ("--prompt", "toy_vector={file}", "--output", "toy_vector"),
            "--prompt toy_vector: is not used by any output (prompts by output: toy_vector ← toy_grid)",
        ),
        (
            ("--prompt", "toy_vector={file}", "--guidance-scale", "0"),
            "--guidance-scale 0: leaves every prompt of toy_grid out",
        ),
        (
            ("--condition", "toy_vector={file}", "--coupling", "none"),
            "is not used by any output with --coupling none (toy_grid: disabled by --coupling none; trained partners:"
            " toy_grid ← toy_vector)",
        ),
        (("--condition", "toy_vector={file}", "--output", "toy_vector"), "both given and to be generated"),
        (("--condition", "toy_vector=a.toy", "--condition", "toy_vector=b.toy"), "stands there twice"),
        (("--solver", "eular"), "eular"),
        (("--steps", "0"), "steps"),
        (("--out", ""), "the path is empty"),
        (("--out", "data"), "is not empty"),
        (("--out", "out.txt"), "is a file"),
        (("--out", "out.txt/made"), "--out out.txt/made: cannot be written to"),
        (("--out", "/proc/made/here"), "--out /proc/made/here: cannot be written to"),
    ],
)
def test_wrong_requests_write_nothing(trained, generate, vector, arguments, expected):
    before = sorted(trained.rglob("*"))
    out = () if "--out" in arguments else ("--out", "refused")
    with pytest.raises(UserError) as refusal:
        generate(*(argument.replace("{file}", vector) for argument in arguments), *out)
    assert expected in str(refusal.value)
    assert sorted(trained.rglob("*")) == before


def test_a_wrong_request_is_one_line(trained, refused):
    assert "is not empty" in refused("core.generate", "--out", "data", cwd=trained, env=ENV)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("medm2g", ["3 rounds", "1  text-xray", "2  text-ct", "3  ct-mri", "no data"]),
        ("medcodi_m", ["2 rounds", "1  xray_frontal-xray_lateral", "2  xray_frontal-text", "no data"]),
    ],
)
def test_plans(run, recipe, expected):
    result = run("core.train", "--recipe", recipe, "--plan")
    assert result.returncode == 0, result.stderr
    for phrase in expected:
        assert phrase in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
