"""What --plan says: rounds, data, never-paired pairs, and exact sizes."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.config.registry import DatasetEntry, PairEntry, load_registry
from core.config.run_config import Flags, resolve
from core.contract.modality import DatasetAdapter, Modality, PartConfig, Parts, Shared
from core.errors import UserError
from core.flow.run import start_run
from core.plan.describe import describe_plan
from core.types import DataSpec, LatentSpec, Prompt, Record

SHIPPED = load_registry(Path(__file__).parents[3] / "registry.toml")
NAMES = ("text", "xray_frontal", "xray_lateral", "ct", "mri")


class Plain(PartConfig):
    def build(self):
        return SimpleNamespace()


class Net(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer, self.prompt_width = torch.nn.Linear(16, width), width
        self.spec = LatentSpec(channels=4, space=(2, 2))

    def forward(self, noisy, level, conditioning):
        return self.layer(noisy.flatten(1)).unflatten(1, (4, 2, 2))


class Encoder(Net):
    def forward(self, batch):
        tokens = self.layer(batch.data.flatten(1)).unsqueeze(1)
        return Prompt(tokens=tokens, pooled=tokens[:, 0], mask=torch.ones(1, 1, dtype=torch.bool))


class NetConfig(PartConfig):
    width: int = 16
    frozen: bool = False

    def build(self):
        return Net(self.width).requires_grad_(not self.frozen)


class EncoderConfig(NetConfig):
    def build(self):
        return Encoder(self.width)


class NeedsPackage(PartConfig):
    def build(self):
        import a_package_that_is_not_installed  # noqa: F401


class NeedsWeights(PartConfig):
    def build(self):
        raise UserError("no weights in /models; download them")


def modality(name: str, **other: PartConfig | Shared | None) -> Modality:
    parts = {
        "reader": Plain(),
        "preprocess": Plain(),
        "augment": Plain(),
        "prompt": EncoderConfig(),
        "autoencoder": Shared("image.autoencoder", NetConfig(width=3, frozen=True)),
        "denoiser": NetConfig(),
    }
    data = DataSpec(kind="grid", space=(4, 4))
    return Modality(name=name, title=name, presets={"tiny": Parts(data=data, **{**parts, **other})})  # type: ignore[arg-type]


VIEW = {"prompt": Shared("xray.prompt", EncoderConfig())}
MODALITIES = {name: modality(name, **(VIEW if name.startswith("xray") else {})) for name in NAMES}


def cohort(patients: int, names: tuple[str, ...] = NAMES, test: int = 2) -> DatasetAdapter:
    def scan(root):
        for number in range(patients + test):
            files = {name: (root / name,) for name in names}
            yield Record(patient=f"p{number}", study="1", files=files, split="train" if number < patients else "test")

    return DatasetAdapter(name="any", title="", modalities=names, licence="", citation="", scan=scan)


def plan(tmp_path, modalities=MODALITIES, datasets=None, entries=None, registry=SHIPPED, **flags) -> str:
    entries = entries or {"phantom": DatasetEntry(adapter="phantom", root=str(tmp_path), deal=True)}
    registry = registry.model_copy(update={"datasets": {**registry.datasets, **entries}})
    run = start_run(resolve(registry, modalities, Flags(**{"recipe": "medm2g", **flags})), modalities)
    return describe_plan(run, registry, {"phantom": cohort(12)} if datasets is None else datasets, rate=1e9)


def section(text: str, head: str) -> str:
    return next(part for part in text.split("\n\n") if part.startswith(head))


def test_head_says_what_was_chosen(tmp_path):
    head = section(plan(tmp_path), "MedWeave plan")
    assert "medm2g" in head
    assert "tiny" in head
    assert str(SHIPPED.sources[0]) in head
    assert "text-xray,text-ct,ct-mri" in head
    assert "guide flow" not in head
    assert "guide flow  xray_frontal-xray_lateral" in section(plan(tmp_path, recipe="medcodi_m"), "MedWeave plan")


def test_rounds_with_disjoint_pools(tmp_path):
    """12 training patients in three pools; the held-out ones are not counted."""
    align = section(plan(tmp_path), "PHASE align")
    assert align == "\n".join(
        [
            "PHASE align: 3 rounds",
            "  1  text-xray",
            "     trains  text.prompt, xray.prompt",
            "     frozen  nothing",
            "     pairs   text + xray_frontal  4 studies (phantom 4)",
            "             text + xray_lateral  4 studies (phantom 4)",
            "  2  text-ct",
            "     trains  ct.prompt",
            "     frozen  text.prompt",
            "     pairs   text + ct  4 studies (phantom 4)",
            "  3  ct-mri",
            "     trains  mri.prompt",
            "     frozen  ct.prompt",
            "     pairs   ct + mri  4 studies (phantom 4)",
        ]
    )


def test_all_pools_is_an_ablation(tmp_path):
    assert "text + ct  12 studies (phantom 12)" in plan(tmp_path, set=["data.pools=all"])


def test_once_trained_weight_sets(tmp_path):
    text = plan(tmp_path)
    assert re.search(r"image\.autoencoder +28 samples +text; xray_frontal", section(text, "PHASE autoencoder"))
    diffuse = section(text, "PHASE diffuse")
    assert re.search(r"ct\.denoiser +8 samples +ct prompted by text, mri", diffuse)
    assert re.search(r"mri\.denoiser +4 samples +mri prompted by ct", diffuse)


def test_never_paired(tmp_path):
    reach = section(plan(tmp_path), "REACHABLE")
    assert "text + mri, xray_frontal + ct, xray_frontal + mri, xray_lateral + ct, xray_lateral + mri" in " ".join(
        reach.split()
    )


def test_several_sources_show_the_whole_batch(tmp_path):
    text = plan(tmp_path, flow="text+xray_frontal-xray_lateral")
    assert "text + xray_frontal + xray_lateral  12 studies" in text
    assert "REACHABLE without ever having been paired\n  none" in text


def test_no_data_is_marked(tmp_path):
    nowhere = {"phantom": DatasetEntry(adapter="phantom", root=str(tmp_path / "nowhere"))}
    text = plan(tmp_path, entries=nowhere)
    assert f"no data: {tmp_path / 'nowhere'} does not exist" in " ".join(text.split())
    assert "ct + mri  no data" in text
    assert "text-ct" in text


def test_reports_without_an_image_are_not_told_as_patients_with_images(tmp_path):
    reports = [Record(patient=f"r{number}", study="1", texts={"text": "Clear lungs."}) for number in range(30)]
    whole = cohort(12)
    both = replace(whole, scan=lambda root: [*whole.scan(root), *reports])
    data = section(plan(tmp_path, datasets={"phantom": both}), "DATA")
    assert "42 studies of 42 patients, 30 of them text alone, in" in " ".join(data.split())
    assert "alone" not in section(plan(tmp_path), "DATA")


def test_modality_without_data(tmp_path):
    text = plan(tmp_path, datasets={"phantom": cohort(6, ("text", "ct"))}, set=["data.pools=all"])
    assert "no data for xray_frontal, xray_lateral, mri" in " ".join(text.split())
    assert "text + ct  6 studies" in text
    assert "ct + mri  no data" in text


def test_unset_variable_and_missing_adapter_do_not_stop_the_plan(tmp_path, monkeypatch):
    monkeypatch.delenv("MEDWEAVE_DATA", raising=False)
    words = " ".join(plan(tmp_path, data="openi_cxr,phantom").split())
    assert "no data: data set 'openi_cxr': no adapter 'manifest'" in words
    words = " ".join(plan(tmp_path, datasets={"manifest": cohort(3)}, data="openi_cxr").split())
    assert "no data: data set 'openi_cxr': root '${MEDWEAVE_DATA}/openi_cxr' needs the environment variable" in words


def test_broken_data_set_is_said(tmp_path):
    def scan(root):
        raise UserError("manifest.csv: no column 'file'")

    broken = replace(cohort(1), scan=scan)
    assert f"no data: data set 'phantom': cannot scan {tmp_path}: manifest.csv: no column 'file'" in " ".join(
        plan(tmp_path, datasets={"phantom": broken}).split()
    )


def test_pair_entry_restricts_data_sets(tmp_path):
    pairs = {"ct-text": PairEntry(datasets=("medpix_ct_mr",))}
    text = plan(tmp_path, registry=SHIPPED.model_copy(update={"pairs": pairs}))
    assert "text + ct  no data" in text


def test_parameters_and_memory_are_exact(tmp_path):
    costs = section(plan(tmp_path), "COST")
    linear = 16 * 16 + 16
    frozen = 16 * 3 + 3
    assert re.search(rf"xray\.prompt +{linear} +{linear}", costs)
    assert re.search(rf"image\.autoencoder +{frozen} +0", costs)
    assert re.search(rf"all +{9 * linear + frozen:,} +{9 * linear:,}", costs)
    # Round 1 of align trains two prompt encoders at 20 bytes a parameter; later ones train one and hold one (4 bytes).
    assert f"align {2 * linear * 20 / 1000:.3g} kB" in costs
    # ct's denoiser with the prompt encoders of text and mri frozen; text's with three distinct ones is the largest.
    assert f"diffuse {(linear * 20 + 2 * linear * 4) / 1000:.3g} kB" in costs
    assert "(without activations; guide without context encoders and their attention)" in " ".join(costs.split())


def test_latent_cache(tmp_path):
    # 12 + 8 + 8 visible samples of 4 x 2 x 2, mean and log-variance in float32.
    assert f"latent cache  {28 * 16 * 2 * 4 / 1000:.3g} kB for 28 samples" in plan(tmp_path)


def test_arithmetic(tmp_path):
    """One linear layer of 16 x 16 is 512 operations; five denoisers, 3 times forward."""
    costs, sizes = section(plan(tmp_path), "COST"), SHIPPED.preset("tiny")
    diffuse, guide = sizes.diffuse, sizes.guide
    assert f"diffuse {5 * 3 * 512 * diffuse.batch * diffuse.steps / 1e6:.3g} MFLOP" in costs
    # Three pairs in the first round, one in each of the others, two denoisers each; frozen, their backward pass is half.
    assert f"guide {5 * 2 * 2 * 512 * guide.batch * guide.steps / 1e6:.3g} MFLOP" in costs
    assert "at least 1 min" in costs
    assert "arithmetic alone" in costs


def test_rate_is_measured_on_this_device(tmp_path):
    run = start_run(resolve(SHIPPED, MODALITIES, Flags(device="cpu")), MODALITIES)
    assert "FLOP/s" in describe_plan(run, SHIPPED, {})


def test_unusable_device(tmp_path):
    run = start_run(resolve(SHIPPED, MODALITIES, Flags(device="gpu")), MODALITIES)
    with pytest.raises(UserError, match="device 'gpu' cannot be used"):
        describe_plan(run, SHIPPED, {})


def test_missing_part_is_said_not_raised(tmp_path):
    modalities = {**MODALITIES, "mri": modality("mri", denoiser=None)}
    text = plan(tmp_path, modalities=modalities)
    assert "mri: no denoiser at preset 'tiny'" in section(text, "PHASE guide")
    assert "mri.denoiser" not in text


def test_missing_package_is_named(tmp_path):
    modalities = {**MODALITIES, "mri": modality("mri", denoiser=NeedsPackage())}
    with pytest.raises(UserError, match=r"'mri\.denoiser' needs the package 'a_package_that_is_not_installed'"):
        plan(tmp_path, modalities=modalities)


def test_missing_weights_are_a_note(tmp_path):
    modalities = {**MODALITIES, "mri": modality("mri", denoiser=NeedsWeights())}
    costs = " ".join(plan(tmp_path, modalities=modalities).split())
    assert "not counted: part 'mri.denoiser': no weights in /models" in costs


@pytest.mark.parametrize("recipe", sorted(SHIPPED.recipes))
def test_plan_is_stable_and_narrow(tmp_path, recipe):
    text = plan(tmp_path, recipe=recipe, data="phantom,openi_cxr,medpix_ct_mr")
    assert text == plan(tmp_path, recipe=recipe, data="phantom,openi_cxr,medpix_ct_mr")
    assert max(map(len, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())
