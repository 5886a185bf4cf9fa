"""A bundle in the form of MONAI: ``python -m monai.bundle run`` generates studies with it.

The weights, their configuration and the card lie in ``models/NAME`` as `core.export.bundle` writes them. What is added
describes them in MONAI's terms, and says how to call `medweave.load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.contract.build import package_versions
from core.engine.checkpoint import write_json
from core.export.card import ModelCard, front_matter_and_text
from core.flow.run import Run
from core.io import atomic_write
from core.types import DataSpec

MODELS = "models"
_PACKAGES = ("monai", "torch", "numpy", "medweave", "diffusers", "transformers")


def write_monai_form(folder: Path, name: str, run: Run, card: ModelCard) -> None:
    """Write ``configs`` and ``docs`` beside the folder ``models``, which holds the bundle ``name``."""
    network = f"$medweave.load(Path(@bundle_root) / '{MODELS}' / {name!r}, device=@device)"
    write_json(folder / "configs" / "metadata.json", metadata_of(run, card))
    write_json(folder / "configs" / "inference.json", {**_INFERENCE, "network_def": network})
    (folder / "docs").mkdir()
    with atomic_write(folder / "docs" / "README.md") as temporary:
        temporary.write_text(front_matter_and_text(card), encoding="utf-8")


def metadata_of(run: Run, card: ModelCard) -> dict[str, Any]:
    """Return the metadata of a MONAI bundle: versions, what the model is for, and the form of its outputs."""
    versions = package_versions(_PACKAGES)
    return {
        "version": card.version,
        "changelog": {card.version: "exported by MedWeave"},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {name: versions[name] for name in _PACKAGES[3:]},
        "name": card.name,
        "task": "Generation of synthetic paired studies",
        "description": card.summary,
        "authors": card.developer,
        "copyright": card.licence,
        "data_source": "; ".join(card.data_sources),
        "data_type": "synthetic",
        "intended_use": f"{card.intended_use} {card.out_of_scope}",
        "references": list(card.references),
        "network_data_format": {
            "inputs": {"prompts": {"type": "mapping", "format": "text, path or array by modality", "optional": True}},
            "outputs": {name: _format(card.outputs[name], run.parts(name).data) for name in run.outputs},
        },
    }


def _format(title: str, spec: DataSpec) -> dict[str, Any]:
    if spec.kind == "tokens":
        return {"type": "string", "format": title, "is_patch_data": False}
    low, high = spec.value_range
    return {
        "type": "image" if spec.kind == "grid" else "vector",
        "format": title,
        "num_channels": spec.channels,
        "spatial_shape": list(spec.space),
        "dtype": "float32",
        "value_range": [low, high],
        "units": spec.units,
        "is_patch_data": False,
    }


# MONAI evaluates what begins with "$", and replaces "@" by another entry. Users change entries on the command line.
_INFERENCE: Mapping[str, Any] = {
    "imports": ["$import medweave", "$from pathlib import Path"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "device": "auto",
    "prompts": {},
    "conditions": {},
    "num": 1,
    "seed": 0,
    "format": None,
    "studies": ("$@network_def.generate(prompts=@prompts, conditions=@conditions, num=int(@num), seed=int(@seed))"),
    "run": ["$[str(study.save(Path(@output_dir) / str(study.index), @format)) for study in @studies]"],
}
