"""How a missing package is installed: by the extra that declares it, where there is one."""

from __future__ import annotations


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
