"""Run the laws on a modality: as a report for a user, as parametrised tests for a plugin's repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.contract.modality import Modality
from core.errors import UserError, unknown_name
from core.testing.laws import Bench, LawBroken, NotApplicable, all_laws
from core.types import Sample

if TYPE_CHECKING:
    import pytest

Status = Literal["passed", "failed", "skipped", "expected"]


@dataclass(frozen=True)
class Outcome:
    """What became of one law. ``expected``: it failed, and the plugin had said so, with a reason."""

    law: str
    status: Status
    message: str = ""


def check_modality(
    modality: Modality,
    preset: str = "tiny",
    *,
    samples: Sequence[Sample] = (),
    files: Sequence[Path] = (),
    expected_failures: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> list[Outcome]:
    """Run every law (or ``only`` some) and report each.

    ``files``: example files for the reader, which a modality without a writer needs; they are read as copies.
    ``expected_failures`` maps a law to the reason why it cannot hold; they are strict: one that holds after all is
    reported as failed. Raises `UserError` for an unknown law or preset, and for a file
    that is not there.
    """
    expected = dict(expected_failures or {})
    laws = all_laws()
    for name in [*expected, *(only or ())]:
        if name not in laws:
            raise unknown_name("law", name, laws)
    bench = Bench(modality, preset, tuple(samples), _existing(files))
    try:
        return [_outcome(name, bench, expected.get(name)) for name in laws if only is None or name in only]
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)


def _existing(files: Sequence[Path]) -> tuple[Path, ...]:
    for path in map(Path, files):
        if not path.is_file():
            raise UserError(f"{path}: no such file; the conformance kit was given it as an example to read")
    return tuple(map(Path, files))


def _outcome(name: str, bench: Bench, reason: str | None) -> Outcome:
    status, message = _examine(name, bench)
    if reason is None or status == "skipped":
        return Outcome(name, status, message)
    if status == "failed":
        return Outcome(name, "expected", f"{reason} ({message})")
    return Outcome(name, "failed", f"expected to fail ({reason}), but it holds: remove the expectation")


def _examine(name: str, bench: Bench) -> tuple[Status, str]:
    try:
        all_laws()[name](bench)
    except NotApplicable as why:
        return "skipped", str(why)
    except LawBroken as broken:
        return "failed", str(broken)
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
    """``@parametrize_checks(MODALITY)`` over a test with an argument ``check``: one test per law."""
    import pytest

    expected = dict(expected_failures or {})
    for name in expected:
        if name not in all_laws():
            raise unknown_name("law", name, all_laws())
    cases = [
        pytest.param(
            _checker(name, modality, preset, tuple(samples), tuple(files)),
            id=f"{modality.name}-{preset}-{name}",
            marks=[pytest.mark.xfail(strict=True, reason=expected[name])] if name in expected else [],
        )
        for name in all_laws()
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
            raise LawBroken(f"{name}: {outcome.message}")

    return check
