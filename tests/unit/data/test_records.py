"""The studies of a run: who is in which split, and that the plan counts what training sees."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from core.config.registry import DatasetEntry, load_registry
from core.config.run_config import Flags, resolve
from core.contract.modality import DatasetAdapter, Modality, PartConfig, Parts
from core.data.cohort import gather_cohort
from core.data.records import records_of, source_of
from core.engine.distributed import Compute
from core.errors import MedWeaveWarning, UserError
from core.flow.patient_pools import split_by_patient
from core.flow.run import start_run
from core.plan.data_counts import count_data
from core.types import DataSpec, Record, Sample

SHIPPED = load_registry(Path(__file__).parents[3] / "registry.toml")
NAMES = ("text", "xray_frontal", "xray_lateral", "ct", "mri")


class Plain(PartConfig):
    def build(self):
        read = Sample(modality="any", data=np.zeros((1, 4, 4), np.float32))
        return SimpleNamespace(read=lambda path: read, apply=lambda sample: sample)


def modality(name):
    parts = {part: Plain() for part in ("reader", "preprocess", "augment", "prompt", "autoencoder", "denoiser")}
    presets = {"tiny": Parts(data=DataSpec(kind="grid", space=(4, 4)), **parts)}
    return Modality(name=name, title=name, presets=presets)


MODALITIES = {name: modality(name) for name in NAMES}


def adapter(patients=30):
    """Every second patient has no lateral view, every third no text, and every study two frontal views."""

    def scan(root):
        for number in range(patients):
            names = [n for n in NAMES if not (n == "xray_lateral" and number % 2) and not (n == "text" and number % 3)]
            files = {name: (root / name,) * (2 if name == "xray_frontal" else 1) for name in names}
            yield Record(patient=f"p{number}", study=f"s{number}", files=files, split="train")

    return DatasetAdapter(name="any", title="", modalities=NAMES, licence="", citation="", scan=scan)


def started(root, *, recipe="medcodi_m", split="official", deal=True, **flags):
    entry = DatasetEntry(adapter="phantom", root=str(root), deal=deal, split=split)
    registry = SHIPPED.model_copy(update={"datasets": {"phantom": entry}})
    return start_run(resolve(registry, MODALITIES, Flags(recipe=recipe, **flags)), MODALITIES), registry


@pytest.mark.filterwarnings("ignore::core.errors.MedWeaveWarning")
@pytest.mark.parametrize(
    "flags",
    [
        {"recipe": "medm2g"},
        {"recipe": "medm2g", "set": ["data.pools=all"]},
        {"recipe": "medcodi_m"},
        {"recipe": "medcodi_m", "set": ["flow.main=text-xray", "flow.guide=xray_frontal-xray_lateral,xray_frontal-ct"]},
    ],
    ids=["pools", "no pools", "two flows", "two flows with a modality of one alone"],
)
def test_the_plan_counts_what_training_sees(tmp_path, flags):
    run, registry = started(tmp_path, **flags)
    (stock,) = count_data(run, registry, {"phantom": adapter()})
    training = gather_cohort(run, registry, {"phantom": adapter()}, Compute("cpu")).training
    pairs = {pair for edge in run.flows.union.edges for pair in edge.pairs}
    for names in [*((name,) for name in run.flows.union.modalities), *pairs]:
        count = len(training.indices_with(*names))
        assert stock.num_pairs(names) == count > 0, names
        if len(names) == 1:
            assert stock.num_samples(names) == count, "of several files in a study the first is used"


def test_splits_by_patient(tmp_path):
    records = [Record(patient=f"p{n // 2}", study=f"s{n}", files={}) for n in range(4000)]
    drawn = split_by_patient(records)
    shares = Counter(record.split for record in drawn)
    assert 0.77 < shares["train"] / 4000 < 0.83
    assert 0.08 < shares["validation"] / 4000 < 0.12
    assert len({(record.patient, record.split) for record in drawn}) == 2000, "a patient is in one split"
    assert split_by_patient(records[1000:1500]) == drawn[1000:1500], "others move nobody"


def test_the_registry_sets_how_a_data_set_is_split(tmp_path):
    for split, expected in (("official", {"train"}), ("by_patient", {"train", "validation", "test"})):
        run, registry = started(tmp_path, split=split, deal=False)
        source = source_of("phantom", run, registry, {"phantom": adapter(200)})
        assert {record.split for record in records_of(source, run)} == expected


def test_an_adapter_gets_its_options(tmp_path):
    def scan(root, *, side="left"):
        yield Record(patient="p", study=side, files={"ct": (root / "ct",)})

    dataset = DatasetAdapter(name="any", title="", modalities=NAMES, licence="", citation="", scan=scan)
    for options, study in (({}, "left"), ({"side": "right"}, "right")):
        run, registry = started(tmp_path)
        entry = registry.datasets["phantom"].model_copy(update={"options": options})
        registry = registry.model_copy(update={"datasets": {"phantom": entry}})
        (record,) = records_of(source_of("phantom", run, registry, {"phantom": dataset}), run)
        assert record.study == study
    entry = entry.model_copy(update={"options": {"sied": "left"}})
    registry = registry.model_copy(update={"datasets": {"phantom": entry}})
    with pytest.raises(UserError, match=r"data set 'phantom': cannot scan .*sied") as caught:
        records_of(source_of("phantom", run, registry, {"phantom": dataset}), run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("together", "message"),
    [(0, "no study to train on holds text and ct"), (1, r"only 1 \(of 2 at least\) study to train")],
)
def test_too_few_studies_of_a_pair(tmp_path, together, message):
    def scan(root):
        apart = [Record(patient=name, study=name, files={name: (root,)}) for name in NAMES]
        return [*apart, *(Record(patient="p", study="p", files=dict.fromkeys(NAMES, (root,))) for _ in range(together))]

    run, registry = started(tmp_path, flow="text-ct")
    lonely = DatasetAdapter(name="any", title="", modalities=NAMES, licence="", citation="", scan=scan)
    with pytest.raises(UserError, match=message):
        gather_cohort(run, registry, {"phantom": lonely}, Compute("cpu"))


def test_a_data_set_without_test_studies_is_measured_on_validation_studies(tmp_path):
    def scan(root):
        for index, split in enumerate(["train"] * 4 + ["validation"] * 3):
            yield Record(patient=f"p{index}", study=f"s{index}", split=split, files=dict.fromkeys(NAMES, (root,)))

    run, registry = started(tmp_path, flow="text-ct")
    result = DatasetAdapter(name="any", title="", modalities=NAMES, licence="", citation="", scan=scan)
    with pytest.warns(MedWeaveWarning, match="no test studies in phantom: measured on validation studies"):
        cohort = gather_cohort(run, registry, {"phantom": result}, Compute("cpu"))
    assert [record.study for record in cohort.test.records] == ["s4", "s5", "s6"]
    assert [record.study for record in cohort.held_out.records] == ["s4", "s5", "s6"]
