"""Paths that no file can have, through every reader and writer."""

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from core.io import (
    ImageReaderConfig,
    ImageWriterConfig,
    NiftiReaderConfig,
    NiftiWriterConfig,
    TextReaderConfig,
    TextWriterConfig,
    centred,
)
from core.types import Sample

GRID = Sample(modality="m", data=np.zeros((1, 4, 5), np.float32), geometry=centred((4, 5), (1, 1), "IL"))
READERS = {
    ".png": ImageReaderConfig(modality="m", orientation="IL"),
    ".nii.gz": NiftiReaderConfig(modality="m"),
    ".txt": TextReaderConfig(modality="m"),
}
WRITERS = {
    ".png": (ImageWriterConfig(), GRID),
    ".nii.gz": (NiftiWriterConfig(), GRID),
    ".txt": (TextWriterConfig(), Sample(modality="m", data="Clear.")),
}
SUFFIXES = sorted(READERS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_readers_refuse_impossible_paths_in_a_single_line(folder, suffix):
    reader = READERS[suffix].build()
    with pytest.raises(UserError, match="cannot be opened: File name too long; shorten it"):
        reader.read(folder / ("x" * 300 + suffix))
    with pytest.raises(UserError, match=r"a\\0b.*holds a NUL character") as caught:
        reader.read(folder / f"a\0b{suffix}")
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_readers_say_when_a_file_may_not_be_opened(folder, suffix, monkeypatch):
    path = folder / f"a{suffix}"
    path.write_bytes(b"x")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.stat", refuse)
        with pytest.raises(UserError, match="cannot be opened: Permission denied; check its permissions"):
            READERS[suffix].build().read(path)
    Image.new("L", (4, 4)).save(folder / "b.png")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match="cannot be opened: Permission denied"):
        READERS[".png"].build().read(folder / "b.png")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["x" * 300, "x" * 249, "a\0b"])
def test_writers_refuse_impossible_paths_and_leave_nothing(folder, provenance, suffix, name):
    """249 letters and a short suffix fit; with .json behind them they no longer do."""
    config, sample = WRITERS[suffix]
    with pytest.raises(UserError, match=r"File name too long; shorten the name|holds a NUL character"):
        config.build().write(sample, folder / f"{name}{suffix}", provenance)
    assert list(folder.iterdir()) == []
