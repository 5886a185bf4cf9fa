"""``python -m core.prepare`` on collected data: what a user sees, what training takes, and a kill at any moment."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import prepare
from core.config.registry import load_registry
from core.config.run_config import Flags, resolve
from core.contract.discovery import discover
from core.data import readability
from core.data.cohort import gather_cohort
from core.data.studies import Studies
from core.engine.distributed import Compute
from core.errors import MedWeaveWarning, UserError
from core.flow.run import start_run
from core.plan.data_counts import count_data

ROOT = Path(__file__).parents[2]
FLOW = "text-xray_frontal"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """``mine(num)``: a data set of this name with pictures and reports, and a registry, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "registry.toml", tmp_path)

    def make(num, entry=""):
        (tmp_path / "registry.local.toml").write_text(
            f'[datasets.mine]\nadapter = "manifest"\nroot = "mine"\nsplit = "by_patient"\n{entry}'
        )
        folder = tmp_path / "mine"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        rows = ["study_id,patient_id,modality,file,report,labels"]
        for index in range(num):
            values = np.random.default_rng(index).integers(0, 256, (36, 32), dtype=np.uint8)
            Image.fromarray(values).save(folder / f"images/{index}.png")
            rows.append(f"s{index},p{index},xray_frontal,images/{index}.png,Nodule number {index} is seen.,nodule")
        (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
        return folder

    return make


def prepared(*arguments, capsys):
    prepare.main(["mine", "--workers", "1", "--quiet", *arguments])
    return capsys.readouterr().out


def cohort(flow=FLOW):
    registry, catalog = load_registry(), discover()
    run = start_run(resolve(registry, catalog.modalities, Flags(flow=flow, data="mine")), catalog.modalities)
    return run, registry, gather_cohort(run, registry, catalog.datasets, Compute("cpu"))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("error::core.errors.MedWeaveWarning")
def test_training_takes_what_was_prepared(mine, capsys, monkeypatch):
    mine(40)
    output = prepared(capsys=capsys)
    assert "40 studies of 40 patients" in output
    assert "80 files were read; all findings: data/prepared/mine/tiny/audit.json" in output
    assert "core.train reads them from there" in output
    _, _, result = cohort()
    records, studies = result.training.records, result.training
    assert len(records) + len(result.held_out.records) + len(result.test.records) == 40
    monkeypatch.setattr(type(studies), "_read", None)
    for name in ("text", "xray_frontal"):
        assert len(studies.batch(name, range(len(records)))) == len(records)
    assert not studies._samples


def test_training_sees_the_same_with_and_without(mine, capsys):
    mine(12)
    _, _, plain = cohort()
    prepared("--flow", FLOW, capsys=capsys)
    _, _, taken = cohort()
    assert taken.fingerprint == plain.fingerprint
    for name in ("text", "xray_frontal"):
        assert taken.training.fingerprint(name) == plain.training.fingerprint(name)
        first, other = (studies.batch(name, range(4)) for studies in (taken.training, plain.training))
        assert first.data.equal(other.data)


def test_the_tree_is_walked_once(mine, capsys, monkeypatch):
    """Training reads the manifest; a changed table is noticed, said, and read again."""
    folder = mine(12)
    prepared(capsys=capsys)
    from plugins.manifest import datasets

    rows = datasets._rows
    monkeypatch.setattr(datasets, "_rows", None)
    assert cohort()[2].training.records
    monkeypatch.setattr(datasets, "_rows", rows)
    with (folder / "manifest.csv").open("a") as file:
        file.write("s99,p99,xray_frontal,images/0.png,Another one.,\n")
    with pytest.warns(MedWeaveWarning, match=r"manifest\.jsonl: is older than mine .*run core\.prepare mine"):
        _, _, result = cohort()
    assert len(result.training.records) + len(result.held_out.records) + len(result.test.records) == 13


def test_a_broken_file_stops_nothing(mine, capsys):
    folder = mine(12)
    (folder / "images/3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "images/4.png").unlink()
    output = prepared(capsys=capsys)
    assert "unreadable files" in output
    assert "images/3.png" in output
    assert "missing files" in output
    with pytest.warns(
        MedWeaveWarning, match=r"left out what core\.prepare could not read: 2 of xray_frontal; see .*audit\.json"
    ):
        run, registry, result = cohort()
    for studies in (result.training, result.held_out, result.test):
        indices = studies.indices_with("xray_frontal")
        if indices:
            studies.batch("xray_frontal", indices)
        assert not {"s3", "s4"} & {studies.records[index].study for index in indices}
    with pytest.warns(MedWeaveWarning, match="2 of xray_frontal"):
        (stock,) = count_data(run, registry, discover().datasets)
    assert stock.num_samples(["xray_frontal"]) == len(result.training.indices_with("xray_frontal")), (
        "the plan counts the same"
    )


def test_a_broken_file_that_was_not_prepared_is_left_out_before_the_first_step(mine):
    folder = mine(12)
    (folder / "images/3.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "images/4.png").write_bytes(b"")
    with pytest.warns(
        MedWeaveWarning,
        match=r"data set 'mine': left out what cannot be read: 2 of xray_frontal; e\.g\. mine/images/3\.png: .*core\.prepare",
    ):
        _, _, result = cohort()
    for studies in (result.training, result.held_out, result.test, result.whole):
        indices = studies.indices_with("xray_frontal")
        if indices:
            studies.batch("xray_frontal", indices)
        assert not {"s3", "s4"} & {studies.records[index].study for index in indices}
        assert {"s3", "s4"}.isdisjoint(record.study for record in studies.records if record.has("xray_frontal"))


def test_what_was_prepared_is_not_tried_again(mine, capsys, monkeypatch):
    mine(12)
    prepared("--modality", "text", capsys=capsys)
    tried = []
    monkeypatch.setattr(Studies, "read_error", lambda studies, name, index: tried.append(name) or "")
    cohort()
    assert tried == ["xray_frontal"] * 12
    prepared(capsys=capsys)
    cohort()
    assert len(tried) == 12


def test_nothing_that_can_be_read_is_an_error_of_a_line(mine):
    for path in (mine(3) / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"data set 'mine': nothing of xray_frontal can be read \(3\); e\.g\. .*0\.png"):
        cohort()


@pytest.mark.parametrize("limit", ["_MAX_FILES", "_MAX_BYTES"])
def test_a_large_data_set_is_not_tried_with_a_warning(mine, monkeypatch, limit):
    folder = mine(12)
    monkeypatch.setattr(readability, limit, 11)
    (folder / "images/3.png").write_bytes(b"")
    with pytest.warns(MedWeaveWarning, match=r"12 files are not tried .*run core\.prepare mine first"):
        _, _, result = cohort()
    with pytest.raises(UserError, match=r"3\.png: the file is empty.*python -m core\.prepare mine lists all"):
        for studies in (result.training, result.held_out, result.test):
            studies.batch("xray_frontal", studies.indices_with("xray_frontal"))


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ((), "tiny; core.train reads them from there"),
        (("--out", "data/prepared/mine", "--root", "mine"), "tiny; core.train reads them from there"),
        (
            ("--out", "there"),
            "for core.train to read them, set datasets.mine.prepared = 'there' in registry.local.toml",
        ),
        (
            ("--root", "copy"),
            "set datasets.mine.root = 'copy' and datasets.mine.prepared = '{}/copy.prepared' in registry.local.toml",
        ),
    ],
)
def test_the_output_names_what_training_reads(mine, capsys, tmp_path, arguments, output):
    shutil.copytree(mine(3), "copy")
    assert output.format(tmp_path.resolve()) in prepared(*arguments, capsys=capsys)


def test_strict_lists_and_stops(mine, capsys):
    folder = mine(6)
    prepared("--strict", capsys=capsys)
    (folder / "images/3.png").unlink()
    with pytest.raises(UserError, match=r"data set 'mine': the audit found missing files \(--strict\)"):
        prepare.main(["mine", "--workers", "1", "--quiet", "--strict"])
    assert "1 of 6 (17 %) are named and not there" in " ".join(capsys.readouterr().out.split())


def test_an_audit_alone(mine, capsys):
    mine(6)
    output = prepared("--audit-only", "--modality", "xray", "--out", "there", capsys=capsys)
    assert "core.train" not in output
    assert not list(Path("there").rglob("*.safetensors"))
    audit = json.loads(Path("there/tiny/audit.json").read_text())
    assert audit["files"] == {"xray_frontal": 6}
    assert any(finding["check"] == "not prepared" and finding["where"] == "text" for finding in audit["findings"])


def test_the_registry_names_the_folder(mine, capsys, monkeypatch):
    monkeypatch.setenv("SCRATCH", "fast")
    mine(6, 'prepared = "${SCRATCH}/mine"\n')
    prepared(capsys=capsys)
    assert Path("fast/mine/manifest.jsonl").is_file()
    assert not Path("data").exists()
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(
        UserError, match=r"datasets\.mine\.prepared|prepared '\$\{SCRATCH\}/mine' needs the environment"
    ):
        prepare.main(["mine"])


def test_settings_of_the_run_to_come(mine, capsys):
    """Another window than the preset's is prepared with --set, and taken by a run with the same --set alone."""
    mine(6)
    prepared("--set", "xray_frontal.preprocess.keep_aspect=false", capsys=capsys)
    with pytest.warns(MedWeaveWarning, match="other settings of its reader or preprocessing"):
        _, _, result = cohort()
    result.training.batch("xray_frontal", [0])
    assert result.training._samples


def test_a_dry_run_writes_nothing(mine, capsys):
    mine(3)
    output = prepared("--dry-run", "--preset", "small", capsys=capsys)
    assert output == "would audit and store samples of 'mine' from mine at preset 'small' in data/prepared/mine\n"
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--num", "3"], "is collected, not computed: leave --num out (computed: phantom, toy)"),
        (["--preset", "tny"], "did you mean 'tiny'"),
        (["--modality", "xray_frontl"], "did you mean 'xray_frontal'"),
        (["--modality", "mri"], "holds none of mri at preset 'tiny' (it holds text, xray_frontal)"),
        (["--modality", ","], "--modality names none"),
        (["--flow", "text-ct-mri"], "text-ct-mri"),
        (["--set", "xray_frontal.preprocess.spce=3"], "spce"),
        (["--workers", "0"], "number of processes (1 to 512)"),
        (["--workers", "1000000000"], "number of processes (1 to 512)"),
        (["--root", "nowhere"], "no folder nowhere"),
        (["--out", "mine/prepared"], "lies in the data set's folder"),
    ],
)
def test_wrong_input_is_an_error_of_a_line(mine, arguments, output):
    mine(3)
    with pytest.raises(UserError) as refused:
        prepare.main(["mine", "--quiet", "--workers", "1", *arguments])
    assert output in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_computed_data_set_is_made_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "registry.toml", tmp_path)
    prepare.main(["toy", "--num", "9", "--quiet", "--workers", "1"])
    assert "'toy' is in data/toy" in capsys.readouterr().out
    assert json.loads(Path("data/prepared/toy/tiny/audit.json").read_text())["files"] == {
        "toy_grid": 9,
        "toy_vector": 9,
    }
    prepare.main(["toy", "--root", "elsewhere/toy", "--num", "3", "--quiet", "--workers", "1"])
    assert Path("elsewhere/toy.prepared/tiny/toy_grid/index.safetensors").is_file()


def test_killed_at_any_moment_the_result_is_that_of_an_undisturbed_run(mine, capsys):
    """Two workers, SIGKILL when a random number of files is there; the last command is left alone, with one worker."""
    mine(600)
    prepared("--out", "whole", capsys=capsys)
    command = [sys.executable, "-m", "core.prepare", "mine", "--workers", "2", "--quiet", "--out", "killed"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    wanted = random.randrange(1, 20)  # of the manifest and 2 files of each of 13 portions
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while process.poll() is None and _num("killed") < wanted:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"killed with {wanted} files, before its end"
    assert not Path("killed/tiny/audit.json").exists()
    output = prepared("--out", "killed", capsys=capsys)
    assert "1,200 files were read" in output
    assert files(Path("killed")) == files(Path("whole"))


def _num(folder):
    return sum(path.is_file() and not path.name.startswith(".") for path in Path(folder).rglob("*"))


def test_pictures_of_one_archive(mine, capsys, tmp_path):
    """Each is a sample of its own: read, told apart, prepared, and missing where the array has no such number."""
    folder = mine(1)
    colour = np.random.default_rng(0).integers(0, 256, (6, 30, 30, 3), np.uint8)
    colour[5] = colour[0]
    np.savez(folder / "images.npz", colour)
    rows = [f"s{number},photo_dermoscopy,images.npz#{number},Picture {number}." for number in range(8)]
    (folder / "manifest.csv").write_text("study_id,modality,file,report\n" + "\n".join(rows) + "\n")
    prepared(capsys=capsys)
    audit = json.loads((tmp_path / "data/prepared/mine/tiny/audit.json").read_text())
    result = {finding["check"]: finding for finding in audit["findings"] if finding["where"] == "photo_dermoscopy"}
    assert "images.npz#6" in json.dumps(result)
    assert result["same pixels"]["count"] == 2
    assert result["same bytes"]["count"] == 0
    with pytest.warns(MedWeaveWarning, match="2 of photo_dermoscopy"):
        _, _, result = cohort("text-photo_dermoscopy")
    studies, name = result.training, "photo_dermoscopy"
    indices = [index for index, held in enumerate(studies.visible) if name in held]
    assert indices
    assert not any(studies.read_error(name, index) for index in indices)
