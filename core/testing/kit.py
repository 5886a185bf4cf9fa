"""Run the contract checks on a modality: as a report, or as parametrised tests of a plugin's repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.contract.modality import Modality
from core.errors import UserError, unknown_name
from core.testing.checks import CheckContext, CheckFailed, NotApplicable, all_checks
from core.types import Sample

if TYPE_CHECKING:
    import pytest

Status = Literal["passed", "failed", "skipped", "expected"]

# Former names of checks, understood for one version in ``only`` and ``expected_failures``.
_FORMER = {"preprocess.keeps_places": "preprocess.keeps_positions"}


@dataclass(frozen=True)
class Outcome:
    """The result of one check. ``expected``: it failed, and the plugin had declared so, with a reason."""

    check: str
    status: Status
    message: str = ""

    @property
    def law(self) -> str:
        """Former name of ``check``, kept for one version."""
        return self.check


def check_modality(
    modality: Modality,
    preset: str = "tiny",
    *,
    samples: Sequence[Sample] = (),
    files: Sequence[Path] = (),
    expected_failures: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> list[Outcome]:
    """Run every check, or ``only`` some, and return the outcome of each.

    ``files``: example files for the reader, which a modality without a writer needs; they are read as copies.
    ``expected_failures`` maps a check to the reason why it cannot pass. These expectations are strict: a check that
    passes after all is reported as failed. Raises `UserError` for an unknown check or preset and for a missing file.
    """
    checks, expected = all_checks(), _require_known(expected_failures or {})
    only = None if only is None else _require_known(dict.fromkeys(only, "")).keys()
    ctx = CheckContext(modality, preset, tuple(samples), _require_files(files))
    try:
        return [_outcome(name, ctx, expected.get(name)) for name in checks if only is None or name in only]
    finally:
        shutil.rmtree(ctx.folder, ignore_errors=True)


def _require_known(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the mapping under today's names of checks; `UserError` for a name that no check has."""
    current = {_FORMER.get(name, name): reason for name, reason in reasons.items()}
    for name in current:
        if name not in all_checks():
            raise unknown_name("check", name, all_checks())
    return current


def _require_files(files: Sequence[Path]) -> tuple[Path, ...]:
    for path in map(Path, files):
        if not path.is_file():
            raise UserError(f"{path}: no such file; it was given to the conformance kit as an example to read")
    return tuple(map(Path, files))


def _outcome(name: str, ctx: CheckContext, reason: str | None) -> Outcome:
    status, message = _run(name, ctx)
    if reason is None or status == "skipped":
        return Outcome(name, status, message)
    if status == "failed":
        return Outcome(name, "expected", f"{reason} ({message})")
    return Outcome(name, "failed", f"expected to fail ({reason}), but it passes: remove the expectation")


def _run(name: str, ctx: CheckContext) -> tuple[Status, str]:
    try:
        all_checks()[name](ctx)
    except NotApplicable as why:
        return "skipped", str(why)
    except CheckFailed as failure:
        return "failed", str(failure)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "passed", ""


def parametrize_checks(
    modality: Modality,
    preset: str = "tiny",
    *,
    samples: Sequence[Sample] = (),
    files: Sequence[Path] = (),
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Return a decorator that runs a test with an argument ``check`` once per contract check."""
    import pytest

    expected = _require_known(expected_failures or {})
    cases = [
        pytest.param(
            _checker(name, modality, preset, tuple(samples), tuple(files)),
            id=f"{modality.name}-{preset}-{name}",
            marks=[pytest.mark.xfail(strict=True, reason=expected[name])] if name in expected else [],
        )
        for name in all_checks()
    ]
    return pytest.mark.parametrize("check", cases)


def _checker(
    name: str, modality: Modality, preset: str, samples: tuple[Sample, ...], files: tuple[Path, ...]
) -> Callable[[], None]:
    def check() -> None:
        import pytest

        (outcome,) = check_modality(modality, preset, samples=samples, files=files, only=[name])
        if outcome.status == "skipped":
            pytest.skip(outcome.message)
        if outcome.status != "passed":
            raise CheckFailed(f"{name}: {outcome.message}")

    return check
