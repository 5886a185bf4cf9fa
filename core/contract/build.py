"""Build parts, and name the packages that they need.

Whatever goes wrong in a plugin's ``build()`` becomes one line that names the part and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from core.contract.modality import PartConfig, Shared
from core.errors import UserError


class MissingPackageError(UserError):
    """A part needs a package that is not installed."""


def build_part(config: PartConfig | Shared, key: str, owners: Sequence[str] = ()) -> Any:
    """Return what ``config.build()`` makes.

    ``key``: the weight set, or ``modality.part``. ``owners``: the modalities that share the part; an error names them
    where the key does not begin with one of them. Raises `MissingPackageError` with the command that installs a missing
    package, and `UserError` for any other failure.
    """
    shared_by = "" if not owners or key.partition(".")[0] in owners else f" of {' and '.join(owners)}"
    part = f"part '{key}'{shared_by}"
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


def install_command(distribution: str, package: str) -> str:
    """Return the pip command for a package: that of the extra that declares it, else that of the package itself."""
    extra = _extra_of(distribution, package)
    return f"pip install '{distribution}[{extra}]'" if extra else f"pip install {package}"


def distribution_of(module: str) -> str:
    """Return the distribution that a module was installed with; empty where it was not installed."""
    from importlib.metadata import packages_distributions

    return next(iter(packages_distributions().get(module.partition(".")[0], ())), "")


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, in their order; `PackageNotFoundError` where one is missing."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


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
