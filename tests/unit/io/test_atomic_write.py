import os
from pathlib import Path

import pytest

from core.errors import UserError
from core.io.files import atomic_write


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_appears_whole(folder):
    path = folder / "a.nii.gz"
    with atomic_write(path) as temporary:
        assert temporary.parent == folder
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(folder) == ["a.nii.gz"]


def test_failure_leaves_the_old_file_and_nothing_else(folder):
    path = folder / "a.png"
    path.write_text("old")

    def fail():
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert path.read_text() == "old"
    assert names(folder) == ["a.png"]


def test_refuses_an_existing_file(folder):
    path = folder / "a.png"
    path.write_text("old")
    with pytest.raises(UserError, match=r"a\.png: exists already"), atomic_write(path):
        raise AssertionError("not reached")
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("linkable", [True, False])
def test_a_file_that_appears_meanwhile_is_not_overwritten(folder, monkeypatch, linkable):
    if not linkable:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    path = folder / "a.png"

    def race():
        with atomic_write(path) as temporary:
            temporary.write_text("mine")
            path.write_text("theirs")

    with pytest.raises(UserError, match="exists already"):
        race()
    assert path.read_text() == "theirs"
    assert names(folder) == ["a.png"]


def test_works_without_hard_links(folder, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    with atomic_write(folder / "a.png") as temporary:
        temporary.write_text("new")
    assert names(folder) == ["a.png"]


def test_missing_folder_and_folder_as_target(folder):
    with pytest.raises(UserError, match="does not exist; make it"), atomic_write(folder / "none" / "a.png"):
        pass
    with pytest.raises(UserError, match="is a folder"), atomic_write(folder):
        pass


def test_unwritable_folder_gives_a_single_line(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with (
        pytest.raises(UserError, match=r"a\.txt: cannot be written: Permission denied"),
        atomic_write(folder / "a.txt") as temporary,
    ):
        temporary.write_text("x")
    assert names(folder) == []


def test_read_only_folder(read_only):
    with read_only() as folder:
        named = rf"{folder}/a\.txt: cannot be written: Permission denied"
        with pytest.raises(UserError, match=named), atomic_write(folder / "a.txt") as temporary:
            temporary.write_text("x")


def test_a_name_of_the_longest_length(folder):
    path = folder / ("x" * 251 + ".png")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
