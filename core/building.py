"""Making a part: whatever goes wrong in a plugin's ``build()`` is one line that names the part and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.errors import UserError
from core.modality import PartConfig, Shared
from core.packages import distribution_of, install_command


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
