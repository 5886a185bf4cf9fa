"""The conformance kit: the contract as named checks, for plugins inside and outside this repository.

A third party's whole test file::

    from core.testing import parametrize_checks
    from medweave_ultrasound import ULTRASOUND

    @parametrize_checks(ULTRASOUND)
    def test_contract(check):
        check()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.testing.checks import CheckContext, CheckFailed, NotApplicable, check_names
    from core.testing.kit import Outcome, check_modality, parametrize_checks

_HOME = {
    "CheckContext": "core.testing.checks",
    "CheckFailed": "core.testing.checks",
    "NotApplicable": "core.testing.checks",
    "check_names": "core.testing.checks",
    "Outcome": "core.testing.kit",
    "check_modality": "core.testing.kit",
    "parametrize_checks": "core.testing.kit",
}
__all__ = [
    "CheckContext",
    "CheckFailed",
    "NotApplicable",
    "Outcome",
    "check_modality",
    "check_names",
    "parametrize_checks",
]

# Former names, kept for one version so that the tests of plugins written for it run.
_FORMER = {"Bench": "CheckContext", "LawBroken": "CheckFailed", "law_names": "check_names"}


def __getattr__(name: str) -> Any:
    name = _FORMER.get(name, name)
    if name not in _HOME:
        raise AttributeError(f"module 'core.testing' has no public name '{name}'")
    return getattr(import_module(_HOME[name]), name)
