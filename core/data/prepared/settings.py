"""How the files of one modality are read and brought to canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import core
from core.contract.build import build_part, distribution_of
from core.contract.modality import PartConfig, Parts
from core.types import DataSpec

_FORMAT = 2  # of shards and of the facts about files
_DECODERS = (  # distributions that decide on the values of a sample
    *("nibabel", "numpy", "pillow", "pydicom", "scipy", "SimpleITK", "tokenizers"),
    *("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm", "pyjpegls"),
)


@dataclass(frozen=True)
class Settings:
    """The reader (that of the data set, where it sets one) and the preprocessor of a modality at a preset."""

    modality: str
    spec: DataSpec
    reader: PartConfig | None
    preprocess: PartConfig | None

    @property
    def parts(self) -> Parts:
        """Return both as `Studies` takes them."""
        return Parts(data=self.spec, reader=self.reader, preprocess=self.preprocess)

    @cached_property
    def digest(self) -> str:
        """Return a hash of both, and of the versions of MedWeave, of their plugins and of the packages that decode.

        A file of the preprocessor (a tokenizer) is part of it.
        """
        identity = [_FORMAT, core.__version__, self.modality, _named(self.reader), _named(self.preprocess)]
        identity += [_versions(type(self.reader).__module__, type(self.preprocess).__module__)]
        content = None if self.preprocess is None else self._content(self.preprocess)
        return blake2b(repr((identity, content)).encode(), digest_size=16).hexdigest()

    def require(self) -> None:
        """`UserError` where a part cannot be made: that is no fault of the files."""
        if self.reader is not None:
            build_part(self.reader, f"{self.modality}.reader")
        _ = self.digest  # makes the preprocessor

    def _content(self, config: PartConfig) -> str | None:
        as_json = getattr(build_part(config, f"{self.modality}.preprocess"), "to_json", None)
        return None if as_json is None else as_json()


def settings_of(modality: str, parts: Parts, reader: PartConfig | None = None) -> Settings:
    """Return the settings of a modality, with the reader of the data set where it has one."""
    return Settings(modality, parts.data, reader or parts.reader, parts.preprocess)


def digests_of(
    parts: Mapping[str, Parts], readers: Mapping[tuple[str, str], PartConfig], dataset: str
) -> dict[str, str]:
    """Return the digest of every modality that has a preprocessor, as one data set is read."""
    return {
        name: settings_of(name, part, readers.get((dataset, name))).digest
        for name, part in parts.items()
        if part.preprocess is not None
    }


@lru_cache(maxsize=1)
def packages_digest() -> str:
    """Return a hash of what is installed: a file that cannot be read with it may be read with other packages."""
    from importlib.metadata import distributions

    packages = sorted({(str(package.name).lower(), str(package.version)) for package in distributions()})
    return blake2b(repr(packages).encode(), digest_size=8).hexdigest()


@lru_cache
def _versions(*modules: str) -> list[tuple[str, str]]:
    """Return the versions of the decoders and of the distributions that these modules were installed with."""
    from importlib.metadata import PackageNotFoundError, version

    versions = []
    for name in sorted({*_DECODERS, *filter(None, map(distribution_of, modules))}):
        with suppress(PackageNotFoundError):
            versions.append((name, version(name)))
    return versions


def _named(config: Any) -> str:
    return "none" if config is None else f"{type(config).__module__}.{config!r}"
