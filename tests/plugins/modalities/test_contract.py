"""The built-in modalities pass every check of the contract.

Networks of equal configs are examined once: the others of a family are examined for what differs, the file parts.
"""

import pytest

from core.testing import check_modality, check_names
from plugins.ct.modality import CT
from plugins.mask.modality import FINDINGS, ORGANS
from plugins.mri.modality import MODALITIES
from plugins.photo.modality import MODALITIES as PHOTOS
from plugins.text.modality import TEXT
from plugins.xray.modality import FRONTAL, LATERAL

LONG = {"autoencoder.loss_falls"}  # 50 training steps
NETWORK_CHECKS_OF_DECLARATION = {"declaration.state_restores_outputs", "declaration.builds_without_network"}
FILE_PARTS = ("declaration", "reader", "preprocess", "augment", "writer")
FILE_CHECKS = [check for check in check_names() if check.partition(".")[0] in FILE_PARTS]

WHOLE = [(TEXT, "tiny"), (FRONTAL, "tiny"), (CT, "tiny3d")]
OTHERS = [(LATERAL, "tiny"), (CT, "tiny"), *((modality, "tiny") for modality in MODALITIES), (MODALITIES[0], "tiny3d")]
OTHERS += [(FINDINGS, "tiny"), (ORGANS, "tiny3d"), (PHOTOS[0], "tiny")]


def named(value):
    return getattr(value, "name", value)


def outcomes(modality, preset, checks):
    """The messages of the checks that failed, and how many passed."""
    outcomes = check_modality(modality, preset, only=checks)
    failed = {outcome.check: outcome.message for outcome in outcomes if outcome.status == "failed"}
    return failed, sum(outcome.status == "passed" for outcome in outcomes)


@pytest.mark.parametrize("check", [check for check in check_names() if check not in LONG])
@pytest.mark.parametrize(("modality", "preset"), WHOLE, ids=named)
def test_every_check(modality, preset, check):
    (outcome,) = check_modality(modality, preset, only=[check])
    if outcome.status == "skipped":
        pytest.skip(outcome.message)
    assert outcome.status == "passed", outcome.message


@pytest.mark.slow
@pytest.mark.parametrize("check", sorted(LONG))
@pytest.mark.parametrize(("modality", "preset"), WHOLE, ids=named)
def test_long_checks(modality, preset, check):
    assert outcomes(modality, preset, [check]) == ({}, 1)


@pytest.mark.slow
@pytest.mark.parametrize("modality", [ORGANS, PHOTOS[0]], ids=named)
def test_networks_of_several_channels(modality):
    failed, num_passed = outcomes(modality, "tiny", [check for check in check_names() if check not in LONG])
    assert failed == {}
    assert num_passed > len(FILE_CHECKS)


@pytest.mark.parametrize(("modality", "preset"), OTHERS, ids=named)
def test_file_parts(modality, preset):
    failed, num_passed = outcomes(
        modality, preset, [check for check in FILE_CHECKS if check not in NETWORK_CHECKS_OF_DECLARATION]
    )
    assert failed == {}
    assert num_passed > len(FILE_CHECKS) / 2
