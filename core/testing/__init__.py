"""The conformance kit: the contract's laws as named checks, for plugins inside and outside this repository.

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
    from core.testing.kit import Outcome, check_modality, parametrize_checks
    from core.testing.laws import Bench, LawBroken, NotApplicable, law_names

_HOME = {
    "Bench": "core.testing.laws",
    "LawBroken": "core.testing.laws",
    "NotApplicable": "core.testing.laws",
    "law_names": "core.testing.laws",
    "Outcome": "core.testing.kit",
    "check_modality": "core.testing.kit",
    "parametrize_checks": "core.testing.kit",
}
__all__ = [
    "Bench",
    "LawBroken",
    "NotApplicable",
    "Outcome",
    "check_modality",
    "law_names",
    "parametrize_checks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'core.testing' has no public name '{name}'")
    return getattr(import_module(_HOME[name]), name)
