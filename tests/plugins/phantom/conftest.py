from functools import cache

import pytest

from plugins.phantom.anatomy.findings import Finding
from plugins.phantom.study import make_study


@cache
def study_with(patient=3, *findings):
    """A patient of seed 5 with these findings instead of the drawn ones."""
    return make_study(5, patient, tuple(findings))


@pytest.fixture(scope="session")
def study():
    return study_with


@pytest.fixture(scope="session")
def finding():
    return Finding


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    from plugins.phantom.cohort import make_cohort

    root = tmp_path_factory.mktemp("cohort") / "phantom"
    make_cohort(root, num=12, seed=3, workers=1, progress=False)
    return root
