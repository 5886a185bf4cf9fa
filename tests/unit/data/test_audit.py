"""An audit finds what was planted, and nothing in clean data; its arithmetic is that of other ways to count."""

import json
import warnings
from collections import defaultdict
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image

from core.contract.modality import PartConfig, Parts
from core.data.audit.duplicates import EqualGroups, Owners
from core.data.audit.examine import examine
from core.data.audit.file_facts import facts_of_file, facts_of_text, stored_as
from core.data.audit.findings import Finding, NameIndex, share, table, worst
from core.data.audit.geometry import outliers
from core.data.audit.image_hash import distance, near_across_groups, near_within_groups, perceptual_hash
from core.errors import MedWeaveWarning, UserError
from core.io import (
    AnyFormatReaderConfig,
    ImageReaderConfig,
    ImageWriterConfig,
    NiftiReaderConfig,
    RadiographReaderConfig,
    centred,
)
from core.preprocess import WindowNormalizationConfig
from core.types import DataSpec, Provenance, Record, Sample
from tests.unit.data.trees import PARTS, PRESET, READER, picture, prepared, row, tree
from tests.unit.io.dicom.dicom_files import cr, ct_series, save

MANY = 36  # patients: enough for no warning of their number


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def audit(root, tmp_path):
    def call(records, **options):
        return prepared(root, tmp_path / "out", records, keep=False, **options)

    return call


def test_clean_data_are_ok(root, audit):
    report = audit(tree(root, MANY))
    odd = [(finding.check, finding.where, finding.message) for finding in report.findings if finding.verdict != "ok"]
    assert not odd
    assert worst(report.findings) == "ok"


def test_patients_splits_and_pairs(root, audit):
    records = tree(root, MANY)
    records[0] = replace(records[0], files={})
    records[1] = replace(records[1], texts={}, labels={})
    records[2] = replace(records[2], patient="p1")  # p1 is of validation, study 2 of test
    records[3] = replace(records[3], masks={"lung": root / "none.nii"}, labels={"mass": 1, "nodule": 0})
    report = audit(records)
    assert row(report, "patients").numbers == {
        "studies": 36,
        "patients": 35,
        "train": 12,
        "validation": 12,
        "test": 12,
    }
    leak = row(report, "patients in two splits")
    assert (leak.count, leak.verdict, leak.examples) == (1, "error", ("p1",))
    assert row(report, "pairs").count == 34
    assert row(report, "without a partner", "film").count == 1
    assert row(report, "without a partner", "words").count == 1
    assert row(report, "labels").numbers == {"nodule": 34, "mass": 1}
    assert row(report, "labels missing").examples == ("s1",)
    assert (row(report, "masks").verdict, row(report, "masks").count) == ("error", 1)


def test_pairs_are_those_that_training_has(root, audit):
    """A film that is broken and one that is missing are in no pair; a second film that is broken spoils none."""
    records = tree(root, MANY)
    records[0].files["film"][0].write_bytes(b"broken")
    records[1].files["film"][0].unlink()
    (root / "second.png").write_bytes(b"broken")
    records[2] = replace(records[2], files={"film": (*records[2].files["film"], root / "second.png")})
    report = audit(records)
    assert row(report, "pairs").numbers == {"train": 11, "validation": 11, "test": 12}
    assert row(report, "without a partner", "words").count == 2
    assert row(report, "without a partner", "film").num == 34
    assert row(report, "unused files", "film").num == MANY + 1


def test_few_patients_and_a_single_split(root, audit):
    report = audit([replace(record, split="train") for record in tree(root, 4)])
    finding = row(report, "patients")
    assert finding.verdict == "warning"
    assert "nobody in validation and test" in finding.message
    assert "too few patients" in finding.message


def test_duplicates_within_and_across_splits(root, audit):
    records = tree(root, MANY)
    films = [record.files["film"][0] for record in records]
    films[3].write_bytes(films[0].read_bytes())  # both of train
    Image.open(films[6]).save(films[7].with_suffix(".tif"))  # train and validation
    records[7] = replace(records[7], files={"film": (films[7].with_suffix(".tif"),)})
    report = audit(records)
    same = row(report, "same bytes", "film")
    assert (same.count, same.verdict, same.numbers["splits"]) == (2, "warning", 0)
    assert same.examples == ("films/0.png = films/3.png",)
    pixels = row(report, "same pixels", "film")
    assert (pixels.count, pixels.verdict) == (4, "error")
    assert pixels.numbers == {"groups": 2, "patients": 4, "splits": 2}
    assert pixels.examples == ("films/6.png = films/7.tif",)


def test_slices_that_resemble_each_other(root, audit):
    """Neighbours in a smooth volume, and one picture that another patient has a little brighter."""
    rows, columns = np.mgrid[0:64, 0:64] / 64
    records = []
    for patient in range(4):
        waves = np.random.default_rng(patient).uniform(1, 6, (4, 2))
        for index in range(6):
            values = sum(np.sin(a * rows * 3 + b * columns * 3 + 0.02 * index) for a, b in waves)
            path = root / f"{patient}-{index}.png"
            Image.fromarray(np.uint8(127 + 30 * values)).save(path)
            records.append(Record(patient=f"p{patient}", study=path.stem, files={"film": (path,)}))
    bright = np.asarray(Image.open(root / "0-0.png")).astype(int) * 9 // 10 + 20
    Image.fromarray(bright.astype(np.uint8)).save(root / "copy.png")
    records.append(Record(patient="p9", study="copy", files={"film": (root / "copy.png",)}, split="test"))
    report = audit(records)
    assert row(report, "near-copies of one patient", "film").count == 24
    near = row(report, "near-copies of two patients", "film")
    assert near.verdict == "warning"
    assert near.count >= 2
    assert near.numbers["splits"] >= 2
    assert row(report, "same pixels", "film").count == 0


def test_sizes_storage_and_values(root, audit):
    records = tree(root, MANY)
    picture(records[0].files["film"][0], 0, (20, 8))
    Image.new("L", (24, 20), 7).save(records[1].files["film"][0])
    Image.fromarray(np.random.default_rng(1).integers(100, 104, (20, 24), dtype=np.uint8)).save(
        records[2].files["film"][0]
    )
    Image.fromarray(np.random.default_rng(2).integers(0, 2**16, (20, 24), dtype=np.uint16)).save(
        records[4].files["film"][0]
    )
    report = audit(records)
    assert row(report, "tiny sides", "film").examples == ("films/0.png (20 x 8)",)
    assert row(report, "constant images", "film").examples[0].startswith("films/1.png (0.027")
    assert row(report, "faint", "film").examples == ("films/2.png",)
    stored = row(report, "stored as", "film")
    assert stored.verdict == "warning"
    assert stored.numbers == {"PNG L": 35, "PNG I;16": 1}
    assert row(report, "sizes", "film").numbers == {"20 x 24": 35, "20 x 8": 1}
    assert row(report, "all square", "film").count == 0


def test_squares_are_suspected(root, audit):
    records = tree(root, MANY)
    for index, record in enumerate(records):
        picture(record.files["film"][0], index, (24, 24))
    assert row(audit(records), "all square", "film").verdict == "warning"
    picture(records[0].files["film"][0], 0, (24, 25))
    assert row(audit(records), "all square", "film").verdict == "ok"


def test_units_that_a_picture_cannot_have(root, audit):
    """8-bit exports read as Hounsfield units by a setting, and a window that they do not fit."""
    reader = READER.model_copy(update={"units": "HU", "value_range": (5000.0, 9000.0)})
    grid = WindowNormalizationConfig(
        space=(16, 16), spacing_mm=(2.0, 2.0), orientation="IL", low=-1000, high=1000, units="HU"
    )
    report = audit(tree(root, 5), parts={"film": Parts(data=grid.spec, reader=reader, preprocess=grid)})
    assert row(report, "units assumed", "film").count == 5
    assert row(report, "out of range", "film").count == 5
    report = audit(tree(root, 5))
    assert row(report, "units assumed", "film").count == 0


def test_spacing_and_orientation(root, audit):
    import nibabel

    records = []
    for index in range(30):
        spacing = {3: 9.0, 4: 0.1}.get(index, 1 + 0.01 * (index % 5))
        orientation = "LPS" if index == 5 else "RAS"
        affine = centred((16, 16, 17), (spacing, 1.0, 3.0), orientation).affine
        path = root / f"{index}.nii.gz"
        data = np.random.default_rng(index).normal(size=(16, 16, 17)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(data, affine), path)
        records.append(Record(patient=f"p{index}", study=f"s{index}", files={"film": (path,)}))
    grid = WindowNormalizationConfig(
        space=(4, 16, 16), spacing_mm=(4.0, 2.0, 2.0), orientation="SPL", low=-3, high=3, units="a.u."
    )
    reader = AnyFormatReaderConfig(
        nifti=NiftiReaderConfig(modality="film", dims=3), image=ImageReaderConfig(modality="film", orientation="PL")
    )
    report = audit(records, parts={"film": Parts(data=grid.spec, reader=reader, preprocess=grid)})
    far = row(report, "spacing outliers", "film")
    assert [name.split()[0] for name in far.examples] == ["3.nii.gz", "4.nii.gz"]
    turned = row(report, "orientation outliers", "film")
    assert turned.examples == ("5.nii.gz (LPS)",)
    assert turned.numbers == {"RAS": 29, "LPS": 1}
    assert row(report, "spacing unknown", "film").count == 0
    assert row(report, "stored as", "film").numbers == {"NIfTI float32": 30}


def test_polarity_and_depth_of_dicom(root, audit):
    records = []
    for index in range(6):
        stored = np.random.default_rng(index).integers(0, 4096, (20, 24), dtype=np.uint16)
        header = {"PhotometricInterpretation": "MONOCHROME1"} if index == 4 else {}
        header |= {"BitsStored": 12, "HighBit": 11} if index != 5 else {}
        path = save(cr(stored, SOPInstanceUID=f"1.2.3.7.{index}", **header), root / f"{index}.dcm")
        records.append(Record(patient=f"p{index}", study=f"s{index}", files={"film": (path,)}))
    reader = AnyFormatReaderConfig(radiograph=RadiographReaderConfig(modality="film", orientation="IL"))
    report = audit(records, parts={"film": replace(PARTS["film"], reader=reader)})
    stored = row(report, "stored as", "film")
    assert stored.verdict == "warning"
    assert stored.numbers == {
        "DICOM MONOCHROME2 12 bit": 4,
        "DICOM MONOCHROME1 12 bit": 1,
        "DICOM MONOCHROME2 16 bit": 1,
    }
    assert row(report, "spacing unknown", "film").count == 0


def test_a_series_is_stored_as_its_first_file(tmp_path):
    (tmp_path / "ct").mkdir()
    ct_series(tmp_path / "ct", np.zeros((2, 8, 8), np.int16), (0, 0, 0), (0, 0, 3))
    (tmp_path / "ct/000.txt").write_text("notes")
    save(cr(np.zeros((4, 4), np.uint8)), tmp_path / "ct/DICOMDIR")
    sample = Sample(modality="film", data=np.zeros((1, 2, 8, 8)))
    assert stored_as(tmp_path / "ct", sample) == "DICOM MONOCHROME2 16 bit"
    assert stored_as(tmp_path / "none.png", sample) == "unknown"


def test_spacing_that_no_file_states(root, audit):
    plain = {"film": replace(PARTS["film"], reader=READER.model_copy(update={"spacing_mm": None}))}
    assert row(audit(tree(root, 4), parts=plain), "spacing unknown", "film").count == 4


class Holey(PartConfig):
    """A reader that does not look at its numbers."""

    def build(self):
        return self

    def read(self, path):
        data = np.full((1, 16, 16), np.nan, np.float32)
        return Sample(modality="film", data=data, geometry=centred((16, 16), (1.0, 1.0), "IL"), meta={})


def test_nan_is_an_error_even_where_a_reader_lets_it_pass(root, audit):
    parts = {"film": Parts(data=PARTS["film"].data, reader=Holey(), preprocess=Same())}
    assert row(audit(tree(root, 2), parts=parts), "NaN or infinite", "film").verdict == "error"


class Same(PartConfig):
    """A preprocessor that lets everything pass."""

    def build(self):
        return self

    def apply(self, sample):
        return sample


def test_reports(root, audit):
    records = tree(root, MANY)
    texts = {
        0: "Findings: The heart is",
        1: "Normal.",
        2: "Findings: XXXX and XXXX are stable.",
        3: "No change since ___.",
        4: "Impression: [**Doctor 7**] was told at once.",
        5: "Findings: " + "long " * 40 + "end.",
        9: records[6].texts["words"],  # both of train
        10: "Findings: The lungs are clear today. Impression: Nothing new.",
        11: "Findings: The lungs are clear today. Impression: Nothing old.",
    }
    for index, text in texts.items():
        records[index] = replace(records[index], texts={"words": text})
    report = audit(records)
    assert row(report, "texts", "words").count == MANY - 1
    assert row(report, "texts cut off", "words").examples == ("study s0",)
    assert row(report, "short texts", "words").examples == ("study s1",)
    assert row(report, "de-identified text", "words").examples == (
        "study s2 (2 x)",
        "study s3 (1 x)",
        "study s4 (1 x)",
    )
    assert any("study s5" in item for item in row(report, "texts too long", "words").examples)
    whole = row(report, "same text, two patients", "words")
    assert (whole.count, whole.verdict) == (2, "ok")
    section = row(report, "same text, two patients", "words, findings")
    assert (section.count, section.verdict, section.numbers["splits"]) == (4, "warning", 2)


def test_every_warning_of_a_reader_is_listed(root, audit):
    class Warns(type(READER)):
        def build(self):
            return self

        def read(self, path):
            warnings.warn(f"{path}: odd\nheader", stacklevel=1)
            return READER.build().read(path)

    parts = {"film": replace(PARTS["film"], reader=Warns(**READER.model_dump()))}
    finding = row(audit(tree(root, 3), parts=parts), "warnings of the reader", "film")
    assert finding.count == 3
    assert finding.examples[0] == "films/0.png (films/0.png: odd header)"


def test_a_warning_of_the_scan_is_a_row(root, audit):
    def scanned():
        warnings.warn(MedWeaveWarning(f"{root}: left out or missing: 3 masks without their scan"), stacklevel=1)
        yield from tree(root, 3)

    finding = row(audit(scanned()), "scan warnings")
    assert finding.verdict == "warning"
    assert finding.message.endswith("3 masks without their scan")


def test_a_part_that_cannot_be_made_is_no_fault_of_the_files(root, audit):
    class Lacking(type(READER)):
        def build(self):
            raise ImportError("no module", name="decoder_of_nobody")

    parts = {"film": replace(PARTS["film"], reader=Lacking(**READER.model_dump()))}
    with pytest.raises(UserError, match=r"film\.reader.*decoder_of_nobody"):
        audit(tree(root, 2), parts=parts)


def test_what_is_left_out_is_a_row(root, audit):
    report = audit(tree(root, 3), parts={"film": PARTS["film"]})
    assert row(report, "not prepared", "words").count == 3


def test_several_files_of_a_study(root, audit):
    records = tree(root, 4)
    more = tuple(picture(root / f"more{index}.png", 50 + index) for index in range(2))
    records[0] = replace(records[0], files={"film": records[0].files["film"] + more})
    finding = row(audit(records), "unused files", "film")
    assert (finding.count, finding.num) == (2, 6)


def test_the_json_has_the_same_findings(root, audit, tmp_path):
    report = audit(tree(root, 5))
    written = json.loads((tmp_path / "out" / PRESET / "audit.json").read_text())
    assert written["schema"] == 2
    assert written["verdict"] == "warning"
    assert (written["studies"], written["patients"], written["files"]) == (5, 5, {"film": 5, "words": 5})
    assert [(finding["check"], finding["count"]) for finding in written["findings"]] == [
        (finding.check, finding.count) for finding in report.findings
    ]


def test_equal_rows_are_merged():
    rows = [Finding(check="pairs", where=f"a, {name}", message="3 studies hold both", count=3) for name in "bcdefghi"]
    rows.append(Finding(check="pairs", where="a, z", message="2 studies hold both", count=2))
    assert [" ".join(line.split()) for line in table(rows).splitlines()] == [
        "ok pairs a, b; a, c; a, d; a, e; a, f; a, g; and 2 more: 3 studies hold both",
        "ok pairs a, z: 2 studies hold both",
    ]


def test_constant_images_are_no_copies_of_each_other(root, audit):
    records = tree(root, 6)
    for record in records[:4]:
        Image.new("L", (24, 20)).save(record.files["film"][0])
    report = audit(records)
    assert row(report, "constant images", "film").count == 4
    assert row(report, "same bytes", "film").count == row(report, "same pixels", "film").count == 0


def test_the_table_puts_errors_first_and_names_quiet_checks():
    rows = [
        Finding(check="calm", message="0"),
        Finding(check="usual", message="so many", count=3),
        Finding(check="odd", message="few", verdict="warning", count=1, examples=("a.png",)),
        Finding(check="broken", where="film", message="one", verdict="error", count=1),
    ]
    lines = table(rows).splitlines()
    assert [line.split()[0] for line in lines] == ["error", "warning", "ok", "ok"]
    assert "e.g. a.png" in lines[1]
    assert lines[-1].endswith("calm")
    assert max(map(len, lines)) <= 100
    assert worst(rows) == "error"
    assert worst([]) == "ok"


@pytest.mark.parametrize(
    ("count", "num", "expected"),
    [
        (0, 0, "0 of 0 (0 %)"),
        (1, 3, "1 of 3 (33 %)"),
        (1, 2000, "1 of 2,000 (0.05 %)"),
        (2, 100, "2 of 100 (2.0 %)"),
        (7, 7, "7 of 7 (100 %)"),
    ],
)
def test_shares(count, num, expected):
    assert share(count, num) == expected


@pytest.mark.parametrize(
    ("text", "ends", "masked"),
    [
        ("Clear lungs.", True, 0),
        ('Told "yes."', True, 0),
        ("Clear lungs.\n", True, 0),
        ("Clear lungs", False, 0),
        ("In XXXX, XXXXyear.", True, 1),
        ("AXX X__", False, 0),
        ("a ____ b", False, 1),
    ],
)
def test_ends_of_texts_and_de_identified_names(text, ends, masked):
    result = facts_of_text(text)
    assert (result["ends"], result["masked"]) == (ends, masked)


def test_perceptual_hash():
    """Its 64 bits by loops, and what shall and shall not change them."""
    plane = np.random.default_rng(0).normal(size=(80, 90))
    expected = 0
    for r in range(8):
        means = [plane[r * 10 : r * 10 + 10, c * 10 : c * 10 + 10].mean() for c in range(9)]
        for left, right in pairwise(means):
            expected = 2 * expected + (right > left + 0.002 * 0.6)
    result = perceptual_hash(plane)
    bits = np.array([result], dtype=np.uint64), np.array([expected], dtype=np.uint64)
    assert distance(*bits)[0] <= 1  # steps of a thousandth are noise
    assert perceptual_hash(3 * plane + 7) == result
    assert perceptual_hash(np.kron(plane, np.ones((3, 2)))) == result
    assert perceptual_hash(plane[:, ::-1]) != result
    assert perceptual_hash(np.zeros((5, 5))) == 0
    for shape in ((1, 1), (3, 200), (9, 8)):
        assert 0 <= perceptual_hash(np.random.default_rng(1).normal(size=shape)) < 2**64
        assert 0 <= perceptual_hash(np.random.default_rng(1).normal(size=shape), 16) < 2**256


def test_near_pairs_are_those_of_every_pair():
    rng = np.random.default_rng(3)
    centres = rng.integers(1, 2**63, 40, dtype=np.uint64)
    flips = np.array([sum(1 << int(bit) for bit in rng.choice(64, size, replace=False)) for size in rng.integers(0, 4, 200)], dtype=np.uint64)  # fmt: skip
    hashes = rng.choice(centres, 200) ^ flips
    groups = rng.integers(0, 30, 200).astype(np.uint64)
    pairs = {
        (a, b)
        for a, b in combinations(range(200), 2)
        if bin(int(hashes[a]) ^ int(hashes[b])).count("1") <= 2 and hashes[a] and hashes[b]
    }
    across = {(a, b) for a, b in pairs if groups[a] != groups[b]}
    fine = rng.integers(0, 2**63, (200, 4), dtype=np.uint64)
    fine[100:] = fine[:100]
    sure = {(a, b) for a, b in across if sum(bin(int(word)).count("1") for word in fine[a] ^ fine[b]) <= 120}
    assert 0 < len(sure) < len(across)
    assert {tuple(sorted(pair)) for pair in near_across_groups(hashes, fine, groups, 2, 256)} == across
    assert {tuple(sorted(pair)) for pair in near_across_groups(hashes, fine, groups, 2, 120)} == sure
    near = near_within_groups(hashes, groups, 2)
    assert set(np.flatnonzero(near)) == {item for pair in pairs - across for item in pair}
    with pytest.raises(ValueError, match="at most 3 bits"):
        list(near_across_groups(hashes, fine, groups, 4, 256))


def test_groups_of_equal_hashes_are_those_of_a_dictionary():
    rng = np.random.default_rng(4)
    hashes, names = rng.integers(0, 40, 120).astype(np.uint64), NameIndex()
    owners = Owners(names)
    groups = defaultdict(list)
    for index, value in enumerate(hashes.tolist()):
        facts = {
            "file": f"f{index}",
            "patient": f"p{rng.integers(0, 3)}",
            "split": ["train", "test"][rng.integers(0, 2)],
            "study": "",
        }
        names.append(facts["file"])
        owners.add(facts)
        groups[value].append(facts)
    several = [group for group in groups.values() if len(group) > 1]
    groups = EqualGroups(hashes, owners)
    assert (groups.groups, groups.files) == (len(several), sum(map(len, several)))
    for key, result in (("patient", groups.across_patients), ("split", groups.across_splits)):
        assert result == sum(len(group) for group in several if len({item[key] for item in group}) > 1)
    empty = EqualGroups(np.array([], dtype=np.uint64), Owners(names))
    assert (empty.files, empty.across_splits, empty.examples()) == (0, 0, ())


def test_outliers_of_a_spacing():
    values = np.r_[np.full(20, 0.5), 0.51, 0.7, 5.0, 0.1]
    assert np.flatnonzero(outliers(values)).tolist() == [21, 22, 23]
    assert not outliers(np.array([])).size
    wide = np.exp(np.random.default_rng(0).normal(0, 0.3, 1000))
    assert outliers(wide).sum() <= 3, "a broad spread is no outlier"


@pytest.mark.parametrize(("computed", "verdict"), [(False, "error"), (True, "ok")])
def test_files_that_say_they_were_generated_are_an_error_unless_the_data_are_computed(tmp_path, computed, verdict):
    made = Provenance(model="m", recipe="r", seed=0)
    sample = Sample(modality="film", data=np.zeros((1, 9, 9), np.float32), geometry=centred((9, 9), (1.0, 1.0), "SL"))
    facts = []
    for name, is_made in (("a", False), ("b", True)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(np.arange(81, dtype=np.uint8).reshape(9, 9)).save(path)
        if is_made:
            ImageWriterConfig().build().write(sample, path, made, overwrite=True)
        read = ImageReaderConfig(modality="film", orientation="SL").build().read(path)
        facts.append(
            {
                "file": str(path),
                "patient": name,
                "study": name,
                "split": "train",
                "taken": True,
                **facts_of_file(path, read, DataSpec(kind="grid", space=(9, 9))),
            }
        )
    findings = examine("film", DataSpec(kind="grid", space=(9, 9)), facts, computed=computed)
    (finding,) = [finding for finding in findings if finding.check == "generated files"]
    assert (finding.verdict, finding.count) == (verdict, 0 if computed else 1)
