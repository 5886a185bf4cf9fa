"""Everything that a plugin may import: the public promise of MedWeave.

Names are loaded on first use, so ``from core.api import Modality`` does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "core.engine.progress": ("progress",),
    "core.engine.workers": ("in_order", "num_cores"),
    "core.errors": ("MedWeaveWarning", "UserError"),
    "core.contract.hookspecs": ("hookimpl",),
    "core.contract.modality": (
        "CONTRACT",
        "Augmenter",
        "Autoencoder",
        "DatasetAdapter",
        "Denoiser",
        "MetricSpec",
        "Modality",
        "PackagedModel",
        "PartConfig",
        "Parts",
        "Preprocessor",
        "PromptEncoder",
        "Reader",
        "Shared",
        "Site",
        "Writer",
    ),
    "core.preprocess": (
        "AugmenterConfig",
        "BpeTokenizerConfig",
        "ByteTokenizerConfig",
        "LabelAugmenterConfig",
        "LabelPreprocessConfig",
        "PercentileNormalizationConfig",
        "WindowNormalizationConfig",
        "train_tokenizer",
    ),
    "core.types": (
        "Batch",
        "Conditioning",
        "Context",
        "DataFile",
        "DataSpec",
        "FileRef",
        "Geometry",
        "LatentSpec",
        "Posterior",
        "Prompt",
        "Provenance",
        "Record",
        "Sample",
        "Space",
        "file_ref",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = [
    "CONTRACT",
    "Augmenter",
    "AugmenterConfig",
    "Autoencoder",
    "Batch",
    "BpeTokenizerConfig",
    "ByteTokenizerConfig",
    "Conditioning",
    "Context",
    "DataFile",
    "DataSpec",
    "DatasetAdapter",
    "Denoiser",
    "FileRef",
    "Geometry",
    "LabelAugmenterConfig",
    "LabelPreprocessConfig",
    "LatentSpec",
    "MedWeaveWarning",
    "MetricSpec",
    "Modality",
    "PackagedModel",
    "PartConfig",
    "Parts",
    "PercentileNormalizationConfig",
    "Posterior",
    "Preprocessor",
    "Prompt",
    "PromptEncoder",
    "Provenance",
    "Reader",
    "Record",
    "Sample",
    "Shared",
    "Site",
    "Space",
    "UserError",
    "WindowNormalizationConfig",
    "Writer",
    "file_ref",
    "hookimpl",
    "in_order",
    "num_cores",
    "progress",
    "train_tokenizer",
]


# Former names, kept for one version so that plugins written for it load.
_FORMER = {
    "LabelViewsConfig": "LabelAugmenterConfig",
    "PercentilePreprocessConfig": "PercentileNormalizationConfig",
    "PlainWarning": "MedWeaveWarning",
    "RangePreprocessConfig": "WindowNormalizationConfig",
    "ViewsConfig": "AugmenterConfig",
}


def __getattr__(name: str) -> Any:
    name = _FORMER.get(name, name)
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'core.api' has no public name '{name}'")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from core.contract.hookspecs import hookimpl
    from core.contract.modality import (
        CONTRACT,
        Augmenter,
        Autoencoder,
        DatasetAdapter,
        Denoiser,
        MetricSpec,
        Modality,
        PackagedModel,
        PartConfig,
        Parts,
        Preprocessor,
        PromptEncoder,
        Reader,
        Shared,
        Site,
        Writer,
    )
    from core.engine.progress import progress
    from core.engine.workers import in_order, num_cores
    from core.errors import MedWeaveWarning, UserError
    from core.preprocess import (
        AugmenterConfig,
        BpeTokenizerConfig,
        ByteTokenizerConfig,
        LabelAugmenterConfig,
        LabelPreprocessConfig,
        PercentileNormalizationConfig,
        WindowNormalizationConfig,
        train_tokenizer,
    )
    from core.types import (
        Batch,
        Conditioning,
        Context,
        DataFile,
        DataSpec,
        FileRef,
        Geometry,
        LatentSpec,
        Posterior,
        Prompt,
        Provenance,
        Record,
        Sample,
        Space,
        file_ref,
    )
