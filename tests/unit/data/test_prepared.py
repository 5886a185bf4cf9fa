"""Prepared samples are those that the files would give, whoever made them and however often it was stopped."""

import errno
import json
import os
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.contract.modality import PartConfig, Parts
from core.data.prepared import chunks as chunks_module
from core.data.prepared import settings as settings_module
from core.data.prepared.manifest import FILE, is_fresh, read_manifest, source_digest, write_manifest
from core.data.prepared.prepare import prepare
from core.data.prepared.samples import PreparedSamples
from core.data.prepared.settings import digests_of, settings_of
from core.data.prepared.shards import read_header, shard_path
from core.engine.workers import Workers, in_order
from core.errors import MedWeaveWarning, UserError
from core.io import centred
from core.io.lock import folder_lock
from core.types import Record, Sample
from tests.dask_cluster import dask_cluster
from tests.unit.data.trees import GRID, PARTS, PRESET, content, picture, prepared, request, row, studies, tree


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "Prüfung 胸部 X"
    path.mkdir()
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def small_chunks(monkeypatch):
    """Several chunks of a few files."""
    monkeypatch.setattr(chunks_module, "_ROWS", 4)


def warnings_of(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    assert all(issubclass(warning.category, MedWeaveWarning) and "\n" not in str(warning.message) for warning in caught)
    return result, [str(warning.message) for warning in caught]


def same(sample, other):
    assert sample.modality == other.modality
    assert sample.data.dtype == other.data.dtype
    assert np.array_equal(sample.data, other.data)
    assert sample.geometry == other.geometry
    assert dict(sample.meta) == dict(other.meta)


def test_samples_are_those_of_the_files_to_the_last_bit(root, out, small_chunks):
    records = tree(root, 10)
    prepared(root, out, records)
    taken, read = studies(root, out, records), studies(root, None, records)
    for name in PARTS:
        for index in range(10):
            same(taken.sample(name, index), read.sample(name, index))
    assert taken.batch("words", [3, 9]).data.equal(read.batch("words", [3, 9]).data)


def test_no_file_is_read_and_no_sample_is_held(root, out, monkeypatch):
    records = tree(root)
    prepared(root, out, records)
    taken = studies(root, out, records)
    monkeypatch.setattr(type(taken), "_read", None)
    for _ in range(2):
        taken.batch("film", range(6))
    assert not taken._samples


@pytest.mark.parametrize("change", ["last byte", "longer", "other picture"])
def test_a_changed_file_is_read_again_with_a_warning_line(root, out, change):
    records = tree(root)
    prepared(root, out, records)
    path = records[2].files["film"][0]
    if change == "other picture":
        picture(path, 99)
    else:
        before = path.read_bytes()
        path.write_bytes(before + b"\0" if change == "longer" else before[:-1] + bytes([before[-1] ^ 1]))
        if change == "last byte":
            picture(path, 98, (21, 24))
    taken = studies(root, out, records)
    samples, messages = warnings_of(lambda: [taken.sample("film", index) for index in range(6)])
    assert len(messages) == 1
    assert "study 's2' has changed since" in messages[0]
    assert "run core.prepare mine again" in messages[0]
    same(samples[2], studies(root, None, records).sample("film", 2))
    prepared(root, out, records)
    taken = studies(root, out, records)
    result, messages = warnings_of(lambda: taken.sample("film", 2))
    assert not messages
    assert not taken._samples
    same(result, samples[2])


def middle_changed(path):
    """Another picture under the same name, with the same size, first and last bytes."""
    before = path.read_bytes()
    assert len(before) > 3 * 4096
    path.write_bytes(before[:6000] + bytes(byte ^ 1 for byte in before[6000:7000]) + before[7000:])


@pytest.fixture
def raw(root):
    """Records of files that are their pixels, and how they are read."""
    records = tree(root)
    for index, record in enumerate(records):
        path = root / f"{index}.tif"
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (160, 160), dtype=np.uint8)).save(path)
        records[index] = replace(record, files={"film": (path,)})
    return records


def test_a_change_in_the_middle_of_a_file_is_noticed(root, out, raw):
    prepared(root, out, raw)
    old = studies(root, out, raw).sample("film", 2)
    middle_changed(raw[2].files["film"][0])
    result, messages = warnings_of(lambda: studies(root, out, raw).sample("film", 2))
    assert "study 's2' has changed since" in messages[0]
    assert not np.array_equal(result.data, old.data)
    assert prepared(root, out, raw).read == 6
    taken = studies(root, out, raw)
    same(taken.sample("film", 2), result)
    assert not taken._samples


def test_a_copy_with_other_times_is_not_read_again(root, out, raw, monkeypatch):
    prepared(root, out, raw)
    monkeypatch.setattr(chunks_module, "_read", None)
    for index in (1, 2):
        os.utime(raw[index].files["film"][0], ns=(0, 10**18))
    taken = studies(root, out, raw)
    _, messages = warnings_of(lambda: [taken.sample("film", index) for index in range(6)])
    assert not messages
    assert not taken._samples
    before = content(out / PRESET / "words")
    assert prepared(root, out, raw).read == 0
    assert content(out / PRESET / "words") == before
    monkeypatch.setattr("core.data.prepared.file_versions.content_hash_or_zero", None)
    assert prepared(root, out, raw).read == 0, "the new times are known"
    assert studies(root, out, raw).sample("film", 1).data.shape == (1, 16, 16)


def test_only_times_differ_between_copies(root, out, raw, tmp_path):
    prepared(root, out, raw)
    for record in raw:
        os.utime(record.files["film"][0], ns=(0, 10**18))
    prepared(root, tmp_path / "again", raw)
    first, other = content(out), content(tmp_path / "again")
    differ = {name for name in first if first[name] != other[name]}
    assert differ == {"manifest.jsonl", f"{PRESET}/film/00000.versions", f"{PRESET}/film/index.safetensors"}


def test_a_file_that_is_written_while_it_is_read_is_read_again(root, out, raw, monkeypatch):
    read = chunks_module._read

    def disturbed(row, chunk):
        result = read(row, chunk)
        if row.name == "3.tif":
            middle_changed(row.path)
        return result

    monkeypatch.setattr(chunks_module, "_read", disturbed)
    prepared(root, out, raw)
    monkeypatch.undo()
    assert prepared(root, out, raw).read == 6
    same(studies(root, out, raw).sample("film", 3), studies(root, None, raw).sample("film", 3))


def test_other_settings_and_new_studies_are_not_taken(root, out):
    records = tree(root)
    prepared(root, out, records[:5])
    other = {**PARTS, "film": replace(PARTS["film"], preprocess=GRID.model_copy(update={"high": 2.0}))}
    result, messages = warnings_of(lambda: studies(root, out, records, other).sample("film", 0))
    assert "other settings of its reader or preprocessing" in messages[0]
    same(result, studies(root, None, records, other).sample("film", 0))
    result, messages = warnings_of(lambda: studies(root, out, records).sample("film", 5))
    assert "study 's5' is not among them" in messages[0]
    assert result.data.shape == (1, 16, 16)


def test_a_changed_text_of_a_table_is_noticed(root, out):
    records = tree(root)
    prepared(root, out, records)
    records[1] = replace(records[1], texts={"words": "Another report."})
    result, messages = warnings_of(lambda: studies(root, out, records).sample("words", 1))
    assert "study 's1' has changed since" in messages[0]
    same(result, studies(root, None, records).sample("words", 1))


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None])
def test_damaged_shards_and_indexes_are_not_used(root, out, damage):
    records = tree(root)
    prepared(root, out, records)
    for path in ((out / PRESET / "film").glob("*.safetensors"), [out / PRESET / "words/00000.safetensors"]):
        for file in path:
            file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    taken = studies(root, out, records)
    for name in PARTS:
        result, messages = warnings_of(lambda name=name: taken.sample(name, 0))
        assert "out of date" in messages[0]
        same(result, studies(root, None, records).sample(name, 0))


def test_two_workers_and_any_order_of_kills_give_the_same_bytes(root, out, tmp_path, small_chunks):
    """Whatever a kill can leave: some chunks, no index, half of a temporary file."""
    records = tree(root, 10)
    prepared(root, out, records)
    whole = content(out)
    for left in (1, 3, 5):
        again = tmp_path / f"again{left}"
        calls = 0

        def stopped(chunk, left=left):
            nonlocal calls
            calls += 1
            if calls > left:
                raise KeyboardInterrupt
            return chunks_module.prepare_chunk(chunk)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("core.data.prepared.prepare.prepare_chunk", stopped)
            prepared(root, again, records)
        (again / PRESET / "film/.medweave-0123.safetensors").write_bytes(b"half")
        _, messages = warnings_of(lambda again=again: studies(root, again, records).sample("film", 0))
        assert not messages, "an unfinished preparation has no index, and is not used"
        times = {path: path.stat().st_mtime_ns for path in (again / PRESET).glob("*/0*")}
        report = prepared(root, again, records)
        assert content(again) == whole
        assert report.read == 20 - sum(4 if number < 2 else 2 for number in _done(left))
        assert all(path.stat().st_mtime_ns == when for path, when in times.items()), "finished chunks stay"


def _done(calls):
    """Numbers of the chunks that were done: films and words in turn, 4 + 4 + 2 of each."""
    return [0, 0, 1, 1, 2, 2][:calls]


def test_several_processes_give_the_same_bytes(root, out, tmp_path):
    records = tree(root, 10)
    prepared(root, out, records)
    prepared(root, tmp_path / "two", records, workers=Workers(2))
    assert content(tmp_path / "two") == content(out)


def test_the_workers_of_a_cluster_give_the_same_bytes(root, out, tmp_path):
    records = tree(root, 10)
    prepared(root, out, records)
    with dask_cluster() as (address, _):
        prepared(root, tmp_path / "cluster", records, workers=Workers(cluster=address))
    assert content(tmp_path / "cluster") == content(out)


def test_nothing_is_read_twice_and_what_is_gone_goes(root, out, small_chunks):
    records = tree(root, 10)
    assert prepared(root, out, records).read == 20
    assert prepared(root, out, records).read == 0
    report = prepared(root, out, records[:3])
    assert report.files == {"film": 3, "words": 3}
    assert sorted(path.name for path in (out / PRESET / "film").iterdir()) == [
        "00000.jsonl",
        "00000.safetensors",
        "00000.versions",
        "index.safetensors",
    ]


def test_chunks_hold_about_as_much_work_each(root):
    """Few volumes are shared out among processes; texts and pictures do not become thousands of files."""
    names = {"film": [f"{index}.nii.gz" for index in range(20)] + [f"{index}.PNG" for index in range(100)]}
    record = Record(patient="p", study="s", files={"film": tuple(root / name for name in names["film"])})
    texts = [Record(patient="p", study=f"s{index}", texts={"words": "a"}) for index in range(300)]
    settings = {name: settings_of(name, part) for name, part in PARTS.items()}
    result = list(chunks_module.iter_chunks([record, *texts], settings, root, root, keep=True))
    sizes = sorted((chunk.settings.modality, chunk.number, len(chunk.rows)) for chunk in result)
    films = [("film", number, num) for number, num in enumerate((8, 8, 36, 64, 4))]
    assert sizes == [*films, ("words", 0, 256), ("words", 1, 44)]
    assert [row.name for chunk in result if chunk.settings.modality == "film" for row in chunk.rows] == names["film"]


def test_an_audit_alone_writes_no_sample_and_is_not_repeated(root, out):
    records = tree(root)
    prepared(root, out, records, keep=False)
    assert not list(out.rglob("*.safetensors"))
    assert not studies(root, out, records)._prepared["mine"].sample("film", replace(records[0], dataset="mine"))
    assert prepared(root, out, records, keep=False).read == 0
    assert prepared(root, out, records).read == 12


def test_broken_files_stop_nothing_and_are_left_out_until_they_are_mended(root, out):
    records = tree(root)
    for index, broken in ((1, b""), (2, b"\x89PNG\r\n\x1a\n cut"), (3, None)):
        path = records[index].files["film"][0]
        path.unlink()
        if broken is not None:
            path.write_bytes(broken)
    report = prepared(root, out, records)
    assert row(report, "unreadable files", "film").count == 2
    assert "films/1.png" in row(report, "unreadable files", "film").examples[0]
    assert row(report, "missing files", "film").examples == ("films/3.png",)
    left = PreparedSamples("mine", out / PRESET, root, digests_of(PARTS, {}, "mine"))
    assert [left.refuses("film", record) for record in records] == [False, True, True, True, False, False]
    assert left.sample("film", records[4]) is not None
    picture(records[2].files["film"][0], 2)
    assert not left.refuses("film", records[2])


def test_what_could_not_be_read_is_tried_again_with_other_packages(root, out, monkeypatch):
    records = tree(root)
    records[1].files["film"][0].write_bytes(b"")
    prepared(root, out, records)
    assert prepared(root, out, records).read == 0
    monkeypatch.setattr(chunks_module, "packages_digest", lambda: "another decoder")
    assert prepared(root, out, records).read == 6


class Talking(PartConfig):
    """A reader whose samples say much, and with a sound what no JSON can hold."""

    sound: bool = False

    def build(self):
        return self

    def read(self, path):
        messages = {"window": (40.0, 400.0), "deep": {"a": [1, (2.5, None)], "b": np.float64(0.1)}}
        meta = {"path": str(path), "units": "a.u.", "pair": ("x", 1), **({"sound": object()} if self.sound else {})}
        index = centred((16, 16), (2.0, 2.0), "IL", **messages)
        return Sample(modality="film", data=np.zeros((1, 16, 16), np.float32), geometry=index, meta=meta)


def test_all_that_a_sample_holds_comes_back(root, out):
    records = tree(root, 2)
    parts = {"film": replace(PARTS["film"], reader=Talking())}
    prepared(root, out, records, parts=parts)
    taken = studies(root, out, records, parts)
    same(taken.sample("film", 1), studies(root, None, records, parts).sample("film", 1))
    assert not taken._samples


def test_a_sample_that_json_cannot_describe_is_read_from_its_file(root, out):
    records = tree(root, 2)
    parts = {"film": replace(PARTS["film"], reader=Talking(sound=True))}
    prepared(root, out, records, parts=parts)
    taken = studies(root, out, records, parts)
    result, messages = warnings_of(lambda: taken.sample("film", 1))
    assert not messages
    assert "sound" in result.meta


def test_what_systems_put_next_to_images_changes_nothing(root, out):
    folder = root / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"one")
    record = Record(patient="p", study="s", files={"film": (folder,)})
    parts = {"film": replace(PARTS["film"], reader=Talking())}
    assert prepared(root, out, [record], parts=parts).read == 1
    for name in (".DS_Store", "Thumbs.db", "DICOMDIR", "._1.dcm"):
        (folder / name).write_bytes(b"index")
    source = source_digest(root, "any", {})
    (root / "Thumbs.db").write_bytes(b"index")
    assert source_digest(root, "any", {}) == source
    _, messages = warnings_of(lambda: studies(root, out, [record], parts).sample("film", 0))
    assert not messages
    assert prepared(root, out, [record], parts=parts).read == 0
    (folder / "2.dcm").write_bytes(b"two")
    assert prepared(root, out, [record], parts=parts).read == 1


@pytest.mark.parametrize("kind", ["loop", "nowhere", "pipe", "folder"])
def test_strange_files_are_refused_at_once(root, out, kind):
    records = tree(root, 2)
    path = records[1].files["film"][0]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else root / "nobody.png")
    report = prepared(root, out, records)
    check = "missing files" if kind in ("loop", "nowhere") else "unreadable files"
    assert row(report, check, "film").count == 1
    assert studies(root, out, records).sample("film", 0).data.shape == (1, 16, 16)


def test_a_chunk_of_which_training_takes_nothing(root, out, small_chunks):
    records = tree(root, 2)
    more = tuple(picture(root / f"more{index}.png", 50 + index) for index in range(8))
    records[0] = replace(records[0], files={"film": records[0].files["film"] + more})
    assert prepared(root, out, records).files["film"] == 10
    taken = studies(root, out, records)
    assert [taken.sample("film", index).data.shape for index in (0, 1)] == [(1, 16, 16)] * 2
    assert not taken._samples


def test_names_that_are_no_unicode(root, out):
    name = os.fsdecode(b"caf\xe9.png")
    record = tree(root, 1)[0]
    try:
        path = picture(root / "films" / "a.png", 5).rename(root / "films" / name)
    except OSError:
        pytest.skip("this file system keeps no such names")
    record = replace(record, files={"film": (path,)})
    prepared(root, out, [record])
    taken = studies(root, out, [record])
    same(taken.sample("film", 0), studies(root, None, [record]).sample("film", 0))
    assert not taken._samples


def test_a_full_disk_is_a_line_and_leaves_nothing_half(root, out, monkeypatch):
    records = tree(root)
    write = Path.write_bytes

    def full(path, data):
        if path.suffix == ".safetensors":
            write(path, data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"00000\.safetensors: cannot be written: No space left on device"):
        prepared(root, out, records)
    assert not list(out.rglob("*.safetensors"))
    monkeypatch.undo()
    prepared(root, out, records)
    assert studies(root, out, records).sample("film", 0).data.shape == (1, 16, 16)


def test_folders_that_cannot_serve(root, out, tmp_path):
    records = tree(root, 1)
    out.write_text("a file")
    with pytest.raises(UserError, match=r"out: cannot be written: .*--out"):
        prepared(root, out, records)
    with pytest.raises(UserError, match=r"lies in the data set's folder"):
        prepared(root, root / "prepared", records)
    for above in (root.parent, root.parent.parent):
        with pytest.raises(UserError, match=r"holds the data set's folder .*--out"):
            prepared(root, above, records)
    with pytest.raises(UserError, match=r"no study under"):
        prepared(root, tmp_path / "other", [])
    with folder_lock(tmp_path / "busy"), pytest.raises(UserError, match=r"another core\.prepare writes here"):
        prepared(root, tmp_path / "busy", records)


def test_only_prepared_folders_are_tidied(root, out):
    left, other = out / PRESET / "film", out / "elsewhere" / "film" / "deep"
    for folder in (left, other):
        folder.mkdir(parents=True)
        (folder / ".medweave-01.png").write_bytes(b"half")
    prepared(root, out, tree(root))
    assert not list(left.glob(".medweave-*"))
    assert [path.name for path in other.iterdir()] == [".medweave-01.png"]


def test_a_data_set_that_vanishes_on_the_way(root, out):
    records = tree(root)

    def vanishing():
        yield from records
        for path in (root / "films").iterdir():
            path.unlink()

    report = prepare(request(root, out, vanishing()))
    assert row(report, "missing files", "film").count == 6
    assert row(report, "missing files", "words").count == 0


def test_a_killed_worker_is_an_error_of_a_line():
    with pytest.raises(UserError, match="set fewer with --workers"):
        list(in_order(_dies, [1, 2, 3], 2))
    assert list(in_order(abs, [-3, 2, -1], 1)) == [3, 2, 1]
    assert list(in_order(abs, [-3], 2)) == [3]
    assert list(in_order(abs, [], 2)) == []


_dies = os._exit


def test_a_manifest_gives_the_studies_back(root, out):
    out.mkdir()
    elsewhere = out / "elsewhere.png"
    records = [
        *tree(root, 2),
        Record(patient="p\u00e9\ud800", study="a\nb", files={"film": (root / "x y.png", elsewhere)}, split="test"),
        Record(
            patient="q",
            study="q",
            texts={"words": 'said "no"\n\u2028'},
            labels={"mass": 0},
            masks={"lung": root / "m.nii"},
            strata={"sex": "f"},
        ),
    ]
    source = source_digest(root, "any", {"a": 1})
    assert write_manifest(out / FILE, records, root, source) == 4
    assert list(read_manifest(out / FILE, root)) == records
    assert is_fresh(out / FILE, source)
    assert not is_fresh(out / FILE, source_digest(root, "any", {"a": 2}))
    assert not is_fresh(out / FILE, source_digest(root, "other", {"a": 1}))


def test_a_manifest_notices_new_files_and_tables(root):
    tree(root, 2)
    (root / "table.csv").write_text("a")
    before = source_digest(root, "any", {})
    (root / ".hidden").touch()
    assert source_digest(root, "any", {}) == before
    for change in (lambda: (root / "table.csv").write_text("bc"), lambda: picture(root / "films/new.png", 1)):
        change()
        assert source_digest(root, "any", {}) != before
        before = source_digest(root, "any", {})


@pytest.mark.parametrize("damage", ["cut", "no end", "no json", "no study"])
def test_a_damaged_manifest_is_an_error_of_a_line(root, out, damage):
    out.mkdir()
    write_manifest(out / FILE, tree(root, 3), root, "x")
    lines = (out / FILE).read_text().splitlines()
    lines = {
        "cut": [*lines[:3], lines[3][:20]],
        "no end": lines[:-1],
        "no json": [*lines[:2], "{", *lines[2:]],
        "no study": [*lines[:2], "{}", *lines[2:]],
    }[damage]
    (out / FILE).write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"manifest\.jsonl, line \d: .*run core\.prepare again"):
        list(read_manifest(out / FILE, root))


def test_a_tokenizers_file_is_part_of_the_settings():
    class Trained(PartConfig):
        messages: str

        def build(self):
            return self

        def to_json(self):
            return MESSAGE

    parts = {"words": Parts(data=PARTS["words"].data, preprocess=Trained(messages="a"))}
    MESSAGE = "one"
    first = digests_of(parts, {}, "mine")
    MESSAGE = "two"
    assert digests_of(parts, {}, "mine") != first


@pytest.mark.parametrize("updated", ["pydicom", "mine-scanner"])
def test_another_decoder_or_plugin_makes_other_samples(root, out, monkeypatch, updated):
    records = tree(root)
    prepared(root, out, records)
    version = metadata.version

    def newer(name):
        return "99.0" if name == updated else version(name)

    monkeypatch.setattr(metadata, "version", newer)
    monkeypatch.setattr(settings_module, "distribution_of", lambda module: "mine-scanner" if "image" in module else "")
    settings_module._versions.cache_clear()
    try:
        _, messages = warnings_of(lambda: studies(root, out, records).sample("film", 0))
        assert "other settings of its reader or preprocessing, or versions of packages" in messages[0]
        assert prepared(root, out, records).read == (12 if updated == "pydicom" else 6)
    finally:
        settings_module._versions.cache_clear()


def test_shards_name_the_files_of_which_they_are_made(root, out):
    prepared(root, out, tree(root))
    header = read_header(shard_path(out / PRESET / "film", 0))
    assert header is not None
    assert header["digest"] == digests_of(PARTS, {}, "mine")["film"]
    assert json.loads((out / PRESET / "film/00000.jsonl").read_text().splitlines()[0]) == header
    assert set(header) == {"digest", "key"}
