"""Making a part: whatever goes wrong in a plugin's ``build()`` is one line that names the part and the remedy.

How a missing package is installed: by the extra that declares it, where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.contract.modality import PartConfig, Shared
from core.errors import UserError


def install_command(distribution: str, package: str) -> str:
    """``pip install 'DISTRIBUTION[EXTRA]'`` where an extra declares the package, else ``pip install PACKAGE``."""
    extra = _extra_of(distribution, package)
    return f"pip install '{distribution}[{extra}]'" if extra else f"pip install {package}"


def distribution_of(module: str) -> str:
    """The distribution that a module was installed with; empty where it was not installed."""
    from importlib.metadata import packages_distributions

    return next(iter(packages_distributions().get(module.partition(".")[0], ())), "")


def _extra_of(distribution: str, package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        declared = [Requirement(line) for line in requires(distribution) or ()] if distribution else []
    except PackageNotFoundError:
        return None
    for requirement in declared:
        if canonicalize_name(requirement.name) == canonicalize_name(package) and "extra" in str(requirement.marker):
            return str(requirement.marker).partition("extra == ")[2].strip().split()[0].strip("'\"")
    return None


class MissingPackageError(UserError):
    """A part needs a package that is not installed."""


def build_part(config: PartConfig | Shared, key: str, owners: Sequence[str] = ()) -> Any:
    """What ``config.build()`` makes.

    ``key`` is the weight set, or ``modality.part``; ``owners`` are told where the key does not begin with them. Raises
    `MissingPackageError` with the command that installs a missing package, and `UserError` for any other failure.
    """
    whose = "" if not owners or key.partition(".")[0] in owners else f" of {' and '.join(owners)}"
    part = f"part '{key}'{whose}"
    try:
        return config.build()
    except ImportError as error:
        raise MissingPackageError(_missing(part, config, error)) from error
    except UserError as error:
        raise UserError(f"{part}: {error}") from error
    except Exception as error:
        raise UserError(
            f"{part} cannot be built: {type(error).__name__}: {error}; change its settings with --set, or choose"
            " another preset"
        ) from error


def _missing(part: str, config: PartConfig | Shared, error: ImportError) -> str:
    inner = config.config if isinstance(config, Shared) else config
    package = (error.name or str(error)).partition(".")[0]
    command = install_command(distribution_of(type(inner).__module__), package)
    return (
        f"{part} needs the package '{package}', which cannot be imported ({error}); {command}, or choose another preset"
    )
