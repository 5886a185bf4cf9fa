"""From a tree on disk through the shipped registry to what a network gets: entries, leak guard, readers."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.config.registry import load_registry
from core.config.run_config import Flags, resolve
from core.contract.discovery import discover
from core.data.records import readers_of, records_of, source_of
from core.data.studies import Studies
from core.errors import UserError
from core.flow.run import start_run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def samples(tree, monkeypatch):
    """The canonical samples that a run of a flow reads from a data set of the shipped registry."""
    monkeypatch.setenv("MEDWEAVE_DATA", str(tree.root))
    registry, catalog = load_registry(ROOT / "registry.toml"), discover()

    def read(name, flow):
        run = start_run(resolve(registry, catalog.modalities, Flags(flow=flow, data=name)), catalog.modalities)
        source = source_of(name, run, registry, catalog.datasets)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records = records_of(source, run)
            names = run.flows.union.modalities
            visible = [tuple(name for name in names if record.has(name)) for record in records]
            parts = {name: run.modalities[name].parts("tiny") for name in names}
            studies = Studies(records, visible, parts, readers_of([source], run))
            return records, {
                (records[index].study, name): studies.sample(name, index)
                for name in names
                for index in studies.indices_with(name)
            }

    return read


def test_every_data_set_of_the_plugin_has_an_entry():
    from plugins.public_datasets.adapters import ADAPTERS

    entries = load_registry(ROOT / "registry.toml").datasets
    assert {adapter.name for adapter in ADAPTERS} - {"folder"} <= {entry.adapter for entry in entries.values()}


def test_brats_and_ixi_give_their_middle_slices(tree, samples):
    for what in ("t1", "t1ce", "t2", "flair", "seg"):
        tree.volume(f"brats/BraTS2021_00000/BraTS2021_00000_{what}.nii.gz", (10, 12, 5))
    for what in ("T1", "T2", "PD"):
        tree.volume(f"ixi/IXI002-Guys-0828-{what}.nii.gz", (10, 12, 5))
    records, canonical = samples("brats", "mri_t1-mri_t1c")
    assert records[0].dataset == "brats"
    assert set(canonical) == {("BraTS2021_00000", "mri_t1"), ("BraTS2021_00000", "mri_t1c")}
    assert all(sample.data.shape == (1, 64, 64) and np.isfinite(sample.data).all() for sample in canonical.values())
    assert canonical["BraTS2021_00000", "mri_t1"].data.std() > 0.1
    _, canonical = samples("ixi", "mri_t1-mri_pd")
    assert len(canonical) == 2


def test_sliver07_is_read_from_metaimage(tree, samples):
    header = (
        "NDims = 3\nDimSize = 8 8 3\nElementSpacing = 40 40 5\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
        "ElementType = MET_SHORT\nElementDataFile = liver-orig001.raw\n"
    )
    tree.file("sliver07/training/liver-orig001.mhd", header)
    voxels = np.full((3, 8, 8), -1000, "<i2")
    voxels[1] = 500
    tree.file("sliver07/training/liver-orig001.raw", voxels.tobytes())
    _, canonical = samples("sliver07", "text-ct")
    assert set(canonical) == {("train-001", "text"), ("train-001", "ct")}
    assert canonical["train-001", "ct"].data.max() == pytest.approx(0.5)  # 500 HU in a window of -1000 to 1000


def test_mimic_cxr_gives_both_views_and_the_impression(tree, samples):
    tree.table(
        "mimic-cxr/mimic-cxr-2.0.0-metadata.csv",
        ["dicom_id", "subject_id", "study_id", "ViewPosition"],
        ["a", 10000001, 5, "PA"],
        ["b", 10000001, 5, "LATERAL"],
    )
    tree.table("mimic-cxr/mimic-cxr-2.0.0-split.csv", ["subject_id", "split"], [10000001, "validate"])
    folder = "mimic-cxr/files/p10/p10000001"
    tree.picture(f"{folder}/s5/a.jpg")
    tree.picture(f"{folder}/s5/b.jpg")
    tree.file(f"{folder}/s5.txt", "FINDINGS: Long.\n\nIMPRESSION: Short.")
    (record,), canonical = samples("mimic_cxr_impression", "text-xray")
    assert record.split == "validation"
    assert set(canonical) == {("s5", "text"), ("s5", "xray_frontal"), ("s5", "xray_lateral")}
    _, whole = samples("mimic_cxr", "text-xray")
    assert len(whole["s5", "text"].data) > len(canonical["s5", "text"].data), "the whole report is longer"


def test_chestxray14_and_medicat_pictures_with_four_channels(tree, samples):
    from PIL import Image

    tree.table(
        "chestxray14/Data_Entry_2017.csv",
        ["Image Index", "Finding Labels", "Patient ID", "Patient Gender", "View Position"],
        ["a.png", "Mass", 1, "M", "PA"],
    )
    tree.file("chestxray14/train_val_list.txt", "a.png")
    tree.file("chestxray14/test_list.txt", "b.png")
    Image.new("RGBA", (20, 20), (200, 200, 200, 255)).save(tree.file("chestxray14/images/a.png"))
    _, canonical = samples("chestxray14", "text-xray_frontal")
    assert set(canonical) == {("a", "text"), ("a", "xray_frontal")}

    from plugins.public_datasets.medicat import TABLE

    tree.file(f"medicat/{TABLE}", '{"pdf_hash": "h", "fig_uri": "1.png", "s2_caption": "CT scan.", "radiology": true}')
    Image.new("RGB", (20, 20), (255, 255, 255)).save(tree.file("medicat/figures/h_1.png"))
    _, canonical = samples("medicat", "text-ct")
    assert canonical["h_1", "ct"].data.max() == pytest.approx(0.24)


def test_gold_atlas_pairs_ct_and_mri_of_one_folder(tree, samples):
    pixels = {
        **{"PixelSpacing": [30, 30], "Rows": 8, "Columns": 8, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15},
        **{"PixelRepresentation": 1, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"},
        **{"RescaleSlope": 1, "RescaleIntercept": 0, "FrameOfReferenceUID": "1.9", "SliceThickness": 5},
    }
    data = np.full((8, 8), 300, "<i2")
    data[:, 4:] = -200
    for uid, kind, more in (("30", "CT", {"RescaleType": "HU"}), ("31", "MR", {"SeriesDescription": "T2"})):
        for number, path in enumerate(tree.series("gold-atlas/1_01_P", uid, 3, Modality=kind)):
            position = {
                "ImagePositionPatient": [0, 0, 5.0 * (3 - number)],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "SeriesInstanceUID": f"1.2.3.{uid}",
                "InstanceNumber": number,
            }
            name = str(path.relative_to(tree.root))
            tree.dicom(name, Modality=kind, PixelData=data.tobytes(), **position, **pixels, **more)
    (record,), canonical = samples("gold_atlas", "ct-mri")
    assert {name: paths[0].name for name, paths in record.files.items()} == {
        "ct": "30-01.dcm",
        "mri": "31-01.dcm",
        "mri_t2": "31-01.dcm",
    }
    assert canonical["1_01_P", "ct"].data.max() == pytest.approx(0.3)
    assert canonical["1_01_P", "mri"].data.shape == (1, 64, 64)


def test_a_folder_of_ones_own(tree, samples, monkeypatch, tmp_path):
    tree.file("p1/report.txt", "Invented.")
    tree.picture("p1/frontal.png")
    entry = (ROOT / "registry.toml").read_text() + f'\n[datasets.mine]\nadapter = "folder"\nroot = "{tree.root}"\n'
    (tmp_path / "registry.toml").write_text(entry)
    registry, catalog = load_registry(tmp_path / "registry.toml"), discover()
    flags = Flags(flow="text-xray_frontal", data="mine")
    run = start_run(resolve(registry, catalog.modalities, flags), catalog.modalities)
    (record,) = records_of(source_of("mine", run, registry, catalog.datasets), run)
    assert record.has("text")
    assert record.has("xray_frontal")
    assert replace(record, dataset="").patient == "p1"


def test_a_wrong_root_names_the_data_set_and_what_is_missing(tree, samples):
    tree.file("brats/readme.txt")
    with pytest.raises(UserError, match=r"data set 'brats': cannot scan .*holds no case of BraTS; expected files like"):
        samples("brats", "mri_t1-mri_t2")
