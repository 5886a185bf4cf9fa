"""`core` is imported first: it lets a CUDA build of torchvision be imported beside a CPU build of torch."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they bring

import pytest

import core  # noqa: F401


@pytest.fixture(scope="session")
def real_data():
    """``real_data("openms_mri")``: a folder of real images, or a skip. They are never part of the repository.

    The environment variable MEDWEAVE_DATA names their parent; without it a folder beside the checkout is tried.
    """
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("MEDWEAVE_DATA") or beside)

    def find(name):
        if not (root / name).is_dir():
            pytest.skip(f"no real images: MEDWEAVE_DATA names no folder with {name}")
        return root / name

    return find
