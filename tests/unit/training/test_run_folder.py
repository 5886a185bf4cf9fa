"""The folder of a run whose progress cannot be read."""

import json
from pathlib import Path

import pytest
import torch

from core.config.registry import load_registry
from core.config.run_config import Flags, resolve
from core.engine.checkpoint import save_weights
from core.errors import MedWeaveWarning, UserError
from core.generate.networks import read_progress, require_recorded_weights
from core.training.report import _losses
from core.training.run_folder import RunFolder

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")


@pytest.fixture
def config(tmp_path):
    return resolve(REGISTRY, ["toy_vector", "toy_grid"], Flags(flow="toy_vector-toy_grid", run=tmp_path / "run"))


@pytest.mark.parametrize(
    "content", [b"", b'{"data": "seen", "stages": {', b"\xff\xfe", b"null", b"[]", b'{"data": "seen"}', b"[" * 100_000]
)
def test_a_damaged_progress_is_one_line_that_says_what_to_do(config, content):
    RunFolder(config, "seen").close()
    path = config.run / "progress.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        RunFolder(config, "seen")
    line = str(refusal.value)
    assert line.startswith(f"{path}: is damaged (")
    assert line.endswith("; restore it, or name another folder with --run")
    assert "\n" not in line


def test_a_whole_progress_is_read(config):
    started = RunFolder(config, "seen")
    save_weights(torch.nn.Linear(2, 2), config.run / "align" / "a.prompt", {})
    started.finish("align 1 a-b", "align", ["a.prompt"], [])
    started.close()
    again = RunFolder(config, "seen")
    assert again.rows("align 1 a-b") == []
    assert again.homes() == {"a.prompt": config.run / "align" / "a.prompt"}
    again.close()


def test_weights_that_the_run_did_not_record_are_refused(config):
    started = RunFolder(config, "seen")
    home = config.run / "align" / "a.prompt"
    save_weights(torch.nn.Linear(2, 2), home, {})
    started.finish("align 1 a-b", "align", ["a.prompt"], [])
    started.close()
    progress = read_progress(config.run)
    assert require_recorded_weights(progress, config.run).keys() == {"a.prompt"}
    save_weights(torch.nn.Linear(2, 2), home, {})
    with pytest.raises(UserError, match=r"weights\.safetensors: is not the file that the run recorded; restore it"):
        require_recorded_weights(progress, config.run)
    del progress["stages"]["align 1 a-b"]["digests"]
    with pytest.raises(UserError, match=r"progress\.json: has no record of 'a\.prompt'; restore it"):
        require_recorded_weights(progress, config.run)


@pytest.mark.parametrize("content", [None, b"", b"[1", b"[]", b"\xff", b"[" * 100_000])
def test_unreadable_versions_are_a_warning(config, content):
    RunFolder(config, "seen").close()
    path = config.run / "versions.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.warns(MedWeaveWarning, match=r"versions\.json: cannot be read; whether the run repeats"):
        RunFolder(config, "seen").close()


def test_a_torn_line_of_the_log_spoils_no_report(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"phase": "a", "step": 20, "loss": 2.0}\n{"phase": "a", "step": 40, "loss": "nan"}\n'
        b'{"phase": "a", "step": 60, "loss": NaN}\n{"loss": 1.0}\n[3]\n{"phase": "a", "lo\xff'
    )
    assert _losses(path) == {"a": [(20, 2.0)]}


def test_a_run_of_another_version_is_one_line(config):
    started = RunFolder(config, "seen")
    save_weights(torch.nn.Linear(2, 2), config.run / "align" / "a.prompt", {})
    started.finish("align 1 a-b", "align", ["a.prompt"], [])
    started.close()
    path = config.run / "progress.json"
    row = {"phase": "align", "what": "w", "value": 1.0, "former_field": ""}
    path.write_text(path.read_text().replace('"lines": []', f'"lines": [{json.dumps(row)}]'))
    again = RunFolder(config, "seen")
    with pytest.raises(UserError, match="was written by another version of MedWeave; finish it with that version"):
        again.rows("align 1 a-b")
    again.close()


def test_files_that_changed_since_the_start_stop_a_run(config):
    started = RunFolder(config, "seen", files={"ct": "1", "mri": "2"})
    save_weights(torch.nn.Linear(2, 2), config.run / "align" / "a.prompt", {})
    started.finish("align 1 a-b", "align", ["a.prompt"], [])
    started.close()
    RunFolder(config, "seen", files={"ct": "1", "mri": "2"}).close()
    with pytest.raises(UserError, match="the files of mri have changed since the run was started"):
        RunFolder(config, "seen", files={"ct": "1", "mri": "3"})
