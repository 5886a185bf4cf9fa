"""The page's files and commands work as they stand, on a small tree of DICOM series, NIfTI volumes and reports."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
from core import prepare, train
from core.cli.text import WIDTH
from core.data.audit.examine import examine
from core.data.audit.population import Population
from core.types import DataSpec, Record
from tests.unit.io.dicom.dicom_files import ct_series

PAGE = (ROOT / "docs/how-to/bring_your_data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", PAGE, re.M | re.S))
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]
PATIENTS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tree of step 1: 12 patients with a report, a CT series of five slices and a volume."""
    import nibabel

    folder = tmp_path_factory.mktemp("own")
    for number in range(PATIENTS):
        study, rng = folder / f"scans/patient{number:02d}", np.random.default_rng(number)
        (study / "ct").mkdir(parents=True)
        (study / "report.txt").write_text(f"Findings: A mass of {number + 3} mm. Impression: Mass {number}.")
        volume = rng.integers(0, 2000, (5, 32, 32), dtype=np.int16)
        ct_series(study / "ct", volume, (0.0, 0.0, 0.0), (0.0, 0.0, 3.0), spacing=(9.0, 9.0))
        data = rng.normal(size=(32, 32, 5)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(data, np.diag([9.0, 9.0, 3.0, 1.0])), study / f"case_t1_{number}.nii.gz")
    rows = [f"patient{number:02d},patient{number:02d},{number % 2}" for number in range(PATIENTS)]
    (folder / "scans/studies.csv").write_text("study,patient,mass\n" + "\n".join(rows) + "\n")
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
    shutil.copy(ROOT / "registry.toml", folder)
    return folder


@pytest.fixture
def call(folder, monkeypatch, capsys):
    """A command of the page, in this process."""
    monkeypatch.chdir(folder)

    def run(command):
        _, _, module, *arguments = shlex.split(command)
        if module == "core.prepare":
            arguments += ["--workers", "1"]
        {"core.prepare": prepare, "core.train": train}[module].main(arguments)
        return capsys.readouterr().out

    return run


def test_the_page_has_what_the_tests_run():
    assert set(FILES) == {"scans/folder.toml", "registry.local.toml"}
    assert [command.split()[2] for command in COMMANDS] == ["core.prepare"] * 3 + ["core.train"] * 2
    assert all(command.startswith("python -m core.") for command in COMMANDS)


def test_step_3(call, folder):
    dry, audit, keep = COMMANDS[:3]
    assert "would audit" in call(dry)
    assert not (folder / "data").exists()
    output = call(audit)
    assert "12 studies of 12 patients" in output
    assert not list(folder.rglob("*.safetensors"))
    broken = folder / "scans/patient03/ct/000.dcm"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    output = call(audit)
    line = next(line for line in output.splitlines() if "unreadable" in line)
    excerpt = re.search(r"^  error +unreadable files +ct: 1 of 12 \(8\.3 %\)", PAGE, re.M)
    assert excerpt
    assert line.split()[: len(excerpt[0].split())] == excerpt[0].split()
    broken.write_bytes(content)
    assert "unreadable" not in call(audit).partition("nothing to report")[0]
    assert "core.train reads them from there" in call(keep)
    files = json.loads((folder / "data/prepared/mine/tiny/audit.json").read_text())["files"]
    assert files == dict.fromkeys(("text", "ct", "mri_t1"), PATIENTS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::core.errors.MedWeaveWarning")
def test_step_4_reads_no_file(call, monkeypatch):
    call(COMMANDS[2])
    from core.data.studies import Studies

    monkeypatch.setattr(Studies, "_read", None)
    assert re.search(r"^ +1 +text-ct", call(COMMANDS[3]), re.M)
    assert "weights, log and configuration" in call(COMMANDS[4])


def test_every_check_is_on_the_page():
    population = Population()
    record = Record(patient="p", study="s", files={"m": ()}, masks={"a": Path("b")}, labels={"c": 1})
    population.add(record)
    checks = {finding.check for finding in population.findings(("m", "n"))}
    study = {"file": "a", "patient": "p", "study": "s", "split": "train", "taken": True}
    values = {
        "stored": "x",
        "assumed": False,
        "look": 1,
        "fine": "0" * 64,
        "content": 1,
        "pixels": 1,
        "low": 0.0,
        "high": 1.0,
    }
    position = {"shape": [9, 9], "spacing": [1.0, 1.0], "orientation": "RA"}
    text = {"words": 9, "ends": True, "masked": 0, "parts": {}, "pixels": 1}
    facts = [{**study, **values, **position}, {**study, **text}]
    checks |= {finding.check for finding in examine("m", DataSpec(kind="grid", space=(9, 9)), facts)}
    assert len(checks) > 20
    missing = checks - {"patients", "masks", "warnings of the reader", "short texts", "empty texts"}
    assert not [check for check in missing if f"`{check}`" not in PAGE]


def test_the_excerpt_is_as_wide_as_a_table():
    block = re.search(r"^```\n(  error.*?)^```$", PAGE, re.M | re.S)
    assert block
    assert max(map(len, block[1].splitlines())) <= WIDTH
