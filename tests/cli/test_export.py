"""``core.export``: a bundle that generates as the run does, and that no training study can be read from."""

import json
import os
import shutil
import subprocess
import sys

import medweave
import numpy as np
import pytest
import torch
from monai.bundle.properties import MetaProperties
from safetensors.torch import load_file, save_file

from core.contract.discovery import discover
from core.errors import UserError
from core.export.__main__ import main
from core.export.bundle import _portable
from core.export.card import ModelCard, licences_of, require_shareable
from core.testing.toy import ToyReader
from tests.cli.hub_server import Hub

FLOW = ["--flow", "toy_vector-toy_grid", "--data", "toy"]
SHORT = [
    "--steps",
    "2",
    "--set",
    "training.autoencoder.steps=600",
    "--set",
    "training.measure.samples=8",
    "--set",
    "training.measure.steps=2",
]
ENV = {"OMP_NUM_THREADS": "1"}
RUN = "runs/medweave-tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture
def exported(run, folder, monkeypatch):
    """A toy run of two steps and its bundle."""
    if not (folder / "bundle").exists():
        result = run("core.train", *FLOW, *SHORT, cwd=folder, env=ENV)
        assert result.returncode == 0, result.stderr
        result = run("core.export", RUN, "--out", "bundle", "--contact", "us", cwd=folder, env=ENV)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("bundle: 0.")
    monkeypatch.chdir(folder)
    return folder


def test_a_bundle_has_what_generation_needs_and_no_more(exported):
    kinds = {path.suffix for path in (exported / "bundle").rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json", ".toml", ".md"}
    top = {path.name for path in (exported / "bundle").iterdir()}
    assert not top & {"latents", "samples", "measure", "checkpoints", "metrics.jsonl", "report.html"}
    size = [
        sum(path.stat().st_size for path in (exported / name).rglob("weights.safetensors")) for name in ("bundle", RUN)
    ]
    assert size[0] < 0.6 * size[1], "half precision, and no weights that a later stage has trained on"


def test_it_generates_what_the_run_generates(exported):
    studies = [medweave.load(name).generate(num=2, seed=3, steps=4) for name in ("bundle", RUN)]
    for made, expected in zip(*studies, strict=True):
        for name in expected:
            assert np.abs(made[name] - expected[name]).max() < 0.02 * np.ptp(expected[name])


def test_eight_bits_are_a_quarter_of_the_size_and_nearly_the_same_studies(exported):
    main([RUN, "--out", "small", "--precision", "int8"])
    sizes = [
        sum(path.stat().st_size for path in (exported / name).rglob("weights.safetensors"))
        for name in ("small", "bundle")
    ]
    assert sizes[0] < 0.8 * sizes[1], "most tensors of the toys are too small for it"
    studies = [medweave.load(name).generate(num=2, seed=3, steps=4) for name in ("small", RUN)]
    for made, expected in zip(*studies, strict=True):
        for name in expected:
            assert np.abs(made[name] - expected[name]).mean() < 0.03 * np.ptp(expected[name])


def test_no_tensor_of_it_decodes_to_a_training_study(exported):
    """Everything that has as many numbers as a latent, or a multiple of it, is decoded and compared with all studies."""
    model, adapter = medweave.load("bundle"), discover().datasets["toy"]
    parts = discover().modalities["toy_grid"].parts("tiny")
    reader, preprocess = parts.reader.build(), parts.preprocess.build()
    records = list(adapter.scan(exported / "data/toy"))
    real = torch.stack(
        [torch.as_tensor(preprocess.apply(reader.read(record.files["toy_grid"][0])).data) for record in records]
    )
    nearest = lambda images: torch.cdist(images.flatten(1), real.flatten(1)).min().item()  # noqa: E731
    codec, spec = model.bundle.part("toy_grid", "autoencoder"), model.bundle.latent_spec("toy_grid")
    shape = (spec.channels, *spec.space)
    latents = candidates(exported / "bundle", shape)
    assert len(latents) > 10, "the search has found something to decode"
    with torch.no_grad():
        planted = codec.encode(model.bundle.networks.compute.to_device(batch_of(real[:1]))).mean
        assert torch.equal(planted, candidates_of({"planted": planted[0]}, shape)[0][None])
        close = nearest(codec.decode(planted).data)
        closest = min(nearest(codec.decode(each[None]).data) for each in latents)
    assert closest > 1.5 * close, "a planted latent would be found"


def batch_of(data):
    from core.types import Batch

    return Batch(modality="toy_grid", data=data)


def candidates(bundle, shape):
    tensors = {str(path): load_file(path) for path in bundle.rglob("*.safetensors")}
    return [each for state in tensors.values() for each in candidates_of(state, shape)]


def candidates_of(state, shape):
    size = int(np.prod(shape))
    rows = [
        value.float().reshape(-1, *shape) for value in state.values() if value.numel() and value.numel() % size == 0
    ]
    return [row for group in rows for row in group[:8]]


def test_its_card_is_complete_and_says_what_was_measured(exported):
    card = ModelCard.model_validate_json((exported / "bundle/model_card.json").read_text())
    assert card.outputs.keys() == {"toy_vector", "toy_grid"}
    assert card.developer == "us"
    assert all(getattr(card, field) for field in ModelCard.model_fields if field != "verdicts")
    table = {line["what"]: line["value"] for stage in progress(exported)["stages"].values() for line in stage["lines"]}
    assert {row.metric: row.value for row in card.measured}.items() <= table.items()
    text = (exported / "bundle/README.md").read_text()
    matter = [line.partition(": ") for line in text.split("---\n")[1].splitlines()]
    assert {key: json.loads(value) for key, _, value in matter}["library_name"] == "medweave"
    assert "Not for diagnosis" in text


def progress(folder):
    return json.loads((folder / RUN / "progress.json").read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda bundle: edit(bundle / "bundle.json", bundle=2),
            "is a bundle of version 2, this MedWeave reads version 1",
        ),
        (lambda bundle: (bundle / "bundle.json").write_text("{"), "is damaged"),
        (lambda bundle: edit(bundle / "bundle.json", bundle=[["x"]]), "is a bundle of version"),
        (lambda bundle: flip(next(bundle.rglob("weights.safetensors"))), "weights"),
        (lambda bundle: replaced(next(bundle.rglob("weights.safetensors"))), "weights"),
        (lambda bundle: (bundle / "progress.json").unlink(), "no stage of this run is finished"),
        (lambda bundle: (bundle / "config.toml").unlink(), "is no run folder"),
    ],
)
def test_a_damaged_bundle_is_one_line(exported, tmp_path, change, message):
    shutil.copytree(exported / "bundle", tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(UserError, match=message) as refusal:
        medweave.load(tmp_path / "copy").generate(steps=2)
    assert "\n" not in str(refusal.value)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def replaced(path):
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((RUN, "--out", "bundle"), "--out bundle: exists already"),
        (("nowhere", "--out", "new"), "nowhere: is no run folder"),
        (("data", "--out", "new"), "data: is no run folder"),
    ],
)
def test_wrong_exports_write_nothing(exported, arguments, message):
    before = sorted(exported.rglob("*"))
    with pytest.raises(UserError, match=message):
        main(arguments)
    assert sorted(exported.rglob("*")) == before


def test_weights_of_closed_data_stay_unless_the_user_has_the_permission():
    datasets = discover().datasets
    open_data, closed = licences_of(["phantom"], datasets), licences_of(["phantom", "mimic_cxr"], datasets)
    require_shareable(open_data)
    with pytest.raises(UserError, match=r"mimic_cxr \(PhysioNet.*--licence-allows-sharing"):
        require_shareable(closed)
    with pytest.raises(UserError, match="no installed plugin knows its licence"):
        licences_of(["elsewhere"], datasets)


def test_a_configuration_that_names_files_of_this_machine_is_refused(exported):
    config = medweave.load("bundle").bundle.run.config
    named = config.model_copy(update={"parts": {"toy_grid": {"prompt": {"source": "/home/me/weights"}}}})
    with pytest.raises(UserError, match=r"parts\.toy_grid\.prompt\.source = /home/me/weights"):
        _portable(named, "x")


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


def python(run, folder, hub, script):
    env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hub"), "HF_HUB_DISABLE_XET": "1", **ENV}
    return run(sys.executable, "-c", f"import medweave\n{script}", cwd=folder, env=env)


def test_a_bundle_goes_to_a_hub_and_comes_back(exported, run, hub):
    script = "print(medweave.push('bundle', 'group/toy', token='good'))"
    result = python(run, exported, hub, script)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{hub.address}/group/toy/commit/")
    assert hub.private == {"group/toy": True}
    sent = {
        path.relative_to(exported / "bundle").as_posix() for path in (exported / "bundle").rglob("*") if path.is_file()
    }
    assert hub.repositories["group/toy"].keys() == sent

    hub.requests.clear()
    offline = python(run, exported, hub, "medweave.load('group/toy')")
    assert "not in the cache of the hub; give download=True" in offline.stderr.splitlines()[-1]
    assert not hub.requests, "nothing is asked of the hub"
    hub.repositories["group/toy"]["setup.py"] = b"raise SystemExit('run')"
    loaded = python(run, exported, hub, "print(medweave.load('group/toy', download=True).generate(steps=2))")
    assert loaded.returncode == 0, loaded.stderr
    assert "toy_grid" in loaded.stdout
    assert not any("setup.py" in request for request in hub.requests), "nothing but weights and tables is fetched"
    hub.requests.clear()
    again = python(run, exported, hub, "medweave.load('group/toy')")
    assert (again.returncode, hub.requests) == (0, []), again.stderr


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("medweave.push('runs/medweave-tiny', 'group/toy', token='good')", "is no bundle"),
        ("medweave.push('bundle', 'toy', token='good')", "'toy': a hub id is OWNER/NAME"),
        ("medweave.push('bundle', 'group/toy', token='bad')", "the hub did not do it"),
        ("medweave.load('group/none', download=True)", "group/none: the hub did not do it"),
        ("medweave.load('no_such_folder')", "no_such_folder: is no run folder"),
    ],
)
def test_what_a_hub_or_user_refuses_is_one_line(exported, run, hub, script, message):
    result = python(run, exported, hub, script)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]


def test_monai_runs_a_bundle_in_its_form(exported):
    """What users of MONAI type; the inner folder is a bundle of ours."""
    main([RUN, "--out", "for_monai", "--form", "monai", "--name", "toys"])
    folder = exported / "for_monai"
    assert sorted(path.name for path in folder.iterdir()) == ["configs", "docs", "models"]
    assert set(medweave.load(folder / "models/for_monai").outputs) == {"toy_grid", "toy_vector"}
    metadata = json.loads((folder / "configs/metadata.json").read_text())
    needed = [name for name, wanted in MetaProperties.items() if wanted["required"]]
    assert set(needed) <= set(metadata)
    assert metadata["network_data_format"]["outputs"]["toy_grid"]["spatial_shape"] == [8, 8]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--meta_file", "configs/metadata.json", "--num", "2", "--seed", "5"]
    result = subprocess.run(command, cwd=folder, env={**os.environ, **ENV}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (expected,) = medweave.load("bundle").generate(num=1, seed=5)
    made = ToyReader("toy_vector").read(folder / "eval/0/toy_vector.toy").data
    assert np.allclose(made, expected["toy_vector"], rtol=1e-5), "of two, not of one: rounding"
    assert (folder / "eval/1").is_dir()
