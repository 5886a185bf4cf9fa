"""Whatever is broken in a table, a list or a header, a scan gives records or one line, and nothing else."""

import json
import random
import warnings

import pytest

from core.api import Record, UserError
from plugins.public_datasets.medicat import TABLE

FINDINGS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
CXR = "mimic-cxr-2.0.0-"
ENTRY = {"id": "CXR1_IM-1", "report": "Invented.", "image_path": ["a/0.png", "a/1.png"]}
FIGURE = {"pdf_hash": "h", "fig_uri": "1.png", "s2_caption": "CT scan.", "radiology": True}
XML = (
    '<a><AbstractText Label="FINDINGS">Invented.</AbstractText><MeSH><major>normal</major></MeSH>'
    '<parentImage id="CXR1_IM-0001-4001"/></a>'
)
PROJECTIONS = "uid,filename,projection\n1,1_IM-0001-4001.dcm.png,Frontal\n"
TREES = {
    "mimic_cxr": {
        f"{CXR}metadata.csv": "dicom_id,subject_id,study_id,ViewPosition\na,10000001,5,PA\nb,10000001,6,LL\n",
        f"{CXR}split.csv": "subject_id,split\n10000001,train\n",
        f"{CXR}chexpert.csv": f"study_id,{FINDINGS}\n5{',1.0' * 14}\n",
        "files/p10/p10000001/s5/a.jpg": "",
    },
    "mimic_cxr_impression": {
        f"{CXR}metadata.csv": "dicom_id,subject_id,study_id,ViewPosition\na,10000001,5,PA\n",
        f"{CXR}split.csv": "subject_id,split\n10000001,train\n",
        "files/p10/p10000001/s5/a.jpg": "",
        "files/p10/p10000001/s5.txt": "IMPRESSION: Invented.",
    },
    "iu_xray": {"annotation.json": json.dumps({"train": [ENTRY], "val": [], "test": []}), "images/a/0.png": ""},
    "iu_xray kaggle": {
        "indiana_reports.csv": "uid,Problems,findings,impression\n1,normal,Invented.,None.\n",
        "indiana_projections.csv": PROJECTIONS,
        "images/1_IM-0001-4001.dcm.png": "",
    },
    "iu_xray openi": {
        "ecgen-radiology/1.xml": XML,
        "indiana_projections.csv": PROJECTIONS,
        "NLMCXR_png/CXR1_IM-0001-4001.png": "",
    },
    "chestxray14": {
        "Data_Entry_2017.csv": "Image Index,Finding Labels,Patient ID,Patient Gender,View Position\na.png,Mass,1,M,PA\n",
        "train_val_list.txt": "a.png\n",
        "test_list.txt": "b.png\n",
        "images/a.png": "",
    },
    "medicat": {TABLE: json.dumps(FIGURE) + "\n", "figures/h_1.png": ""},
    "brats": {
        "name_mapping.csv": "Grade,BraTS_2020_subject_ID\nHGG,BraTS20_Training_001\n",
        "BraTS20_Training_001/BraTS20_Training_001_t1.nii": "",
    },
    "ixi": {"IXI.csv": 'IXI_ID,"SEX_ID (1=m, 2=f)"\n2,2\n', "IXI002-Guys-0828-T1.nii.gz": ""},
    "acdc": {"training/p1/Info.cfg": "ED: 1\nES: 2\nGroup: NOR\n", "training/p1/p1_frame01.nii.gz": ""},
    "sliver07": {"liver-orig001.mhd": "NDims = 3\n", "liver-orig001.raw": ""},
    "folder": {
        "folder.toml": 'studies = "*"\n[modalities]\nct = ["c*"]\n[masks]\nliver = ["m*"]\n',
        "studies.csv": "study,patient,split,mass\na,p,test,1\n",
        "a/c.nii": "",
    },
}


def mutated(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        position = draw.randrange(len(changed) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            changed[position : position + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            changed[position:position] = draw.choice(
                [b",", b'"', b"\n", b"\0", b"\xff", b"[", b"-1", b"../", b"\xc3\xa4"]
            )
        elif kind == 2:
            del changed[position : position + draw.randint(1, 8)]
        else:
            changed = changed[:position]
    return bytes(changed)


def outcome(scan, root):
    """Records, or the line that refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(scan(root)), ""
        except UserError as error:
            return [], str(error)


@pytest.mark.parametrize("name", TREES)
def test_a_mutated_tree_gives_records_or_one_line(name, tree):
    from plugins.public_datasets.adapters import ADAPTERS

    (adapter,) = [adapter for adapter in ADAPTERS if adapter.name == name.split()[0]]
    files = {path: content.encode() for path, content in TREES[name].items()}
    for path, content in files.items():
        tree.file(path, content)
    whole, refused = outcome(adapter.scan, tree.root)
    assert whole, refused
    nonempty = [path for path, content in files.items() if content]
    draw = random.Random(name)
    for _ in range(120):
        path = draw.choice(nonempty)
        tree.file(path, mutated(files[path], draw))
        records, refused = outcome(adapter.scan, tree.root)
        assert all(isinstance(record, Record) for record in records)
        assert "\n" not in refused
        assert bool(records) != bool(refused), "neither records nor a reason"
        # Nothing points out of the tree, whatever a table says.
        paths = [path for record in records for group in record.files.values() for path in group]
        assert all(path.resolve().is_relative_to(tree.root.resolve()) for path in paths)
        tree.file(path, files[path])


@pytest.mark.parametrize("name", ["gold_atlas", "brain_mri_ct"])
def test_mutated_headers_give_records_or_one_line(name, tree):
    from plugins.public_datasets.adapters import ADAPTERS

    (adapter,) = [adapter for adapter in ADAPTERS if adapter.name == name]
    (path, *_) = tree.series("p1/ct", "1", 2, Modality="CT", PatientID="p1", EchoTime="3")
    tree.series("p1/mr", "2", 2, Modality="MR", PatientID="p1", EchoTime="90", RepetitionTime="4000")
    whole, draw = path.read_bytes(), random.Random(name)
    for _ in range(120):
        path.write_bytes(
            mutated(whole[132:], draw) if draw.random() < 0.1 else whole[:132] + mutated(whole[132:], draw)
        )
        records, refused = outcome(adapter.scan, tree.root)
        assert records, refused
        assert any(record.has("mri") for record in records), "what is whole is found"
