"""The whole contract, law by law."""

from core.testing import parametrize_checks

from medweave_ultrasound.modality import ULTRASOUND


@parametrize_checks(ULTRASOUND)
def test_contract(check):
    check()
