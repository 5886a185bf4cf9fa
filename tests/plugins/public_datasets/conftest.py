"""Small trees in the layouts of published data sets, made by the tests; every report in them is invented."""

import csv
import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from core.api import MedWeaveWarning, UserError
from plugins.public_datasets.adapters import ADAPTERS

ADAPTER_OF = {adapter.name: adapter for adapter in ADAPTERS}


class Tree:
    """Writes files below a root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, name: str, content: str | bytes = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def table(self, name: str, *rows) -> Path:
        path = self.file(name)
        opened = gzip.open(path, "wt", newline="") if name.endswith(".gz") else path.open("w", newline="")
        with opened as file:
            csv.writer(file).writerows(rows)
        return path

    def picture(self, name: str) -> Path:
        path = self.file(name)
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(path)
        return path

    def volume(self, name: str, shape=(4, 5, 3)) -> Path:
        path = self.file(name)
        image = nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), np.diag([1, 1, 2, 1]))
        nib.save(image, path)
        return path

    def dicom(self, name: str, **tags) -> Path:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

        path = self.file(name)
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.{abs(hash(name)) % 10**12}"
        data.Rows = data.Columns = 2
        for tag, value in tags.items():
            setattr(data, tag, value)
        data.save_as(path, enforce_file_format=True)
        return path

    def series(self, folder: str, uid: str, num: int = 3, **tags) -> list[Path]:
        """Slices whose names run against their positions."""
        return [
            self.dicom(
                f"{folder}/{uid}-{number:02d}.dcm",
                SeriesInstanceUID=f"1.2.3.{uid}",
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                ImagePositionPatient=[0, 0, 5.0 * (num - number)],
                InstanceNumber=number,
                **tags,
            )
            for number in range(num)
        ]


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "Sammlung 胸部 X")


@pytest.fixture
def scan():
    """Records of a scan that must not warn."""

    def scanned(name, root):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return list(ADAPTER_OF[name].scan(root))

    return scanned


@pytest.fixture
def scan_with_warnings():
    """Records and the warnings of a scan."""

    def scanned(name, root):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            records = list(ADAPTER_OF[name].scan(root))
        assert all(issubclass(warning.category, MedWeaveWarning) for warning in caught)
        return records, [str(warning.message) for warning in caught]

    return scanned


@pytest.fixture
def refusal():
    """The one line that refuses a tree."""

    def refused(name, root):
        with pytest.raises(UserError) as error, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            list(ADAPTER_OF[name].scan(root))
        message = str(error.value)
        assert "\n" not in message
        return message

    return refused
