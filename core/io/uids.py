"""DICOM unique identifiers that follow from how a file was made: same seed, same identifiers, same bytes.

PS3.5 B.2: a UUID as one decimal number below the root ``2.25`` is a valid identifier without any registration.
"""

from __future__ import annotations

import hashlib
import json
import uuid

import numpy as np

from core.types import Provenance, Sample

ROOT = "2.25"
_SHORT = 12  # hexadecimal digits of a patient's identifier


def derived_uid(*words: str | int) -> str:
    """The identifier of these words in this order, at most 44 characters: 122 bits of their SHA-256, as a UUID."""
    digest = hashlib.sha256(json.dumps(words).encode()).digest()[:16]
    # Version 8 is that of UUIDs with bits of one's own (RFC 9562, 5.8).
    bits = int.from_bytes(digest, "big") & ~(0xF << 76) & ~(0x3 << 62) | (8 << 76) | (2 << 62)
    return f"{ROOT}.{uuid.UUID(int=bits).int}"


def study_uid(provenance: Provenance) -> str:
    """Of everything that one order has made for one index, whatever the modality."""
    return derived_uid("study", _told(provenance))


def frame_of_reference_uid(provenance: Provenance) -> str:
    """Of the patient's coordinates, which all slices and volumes of a study share. Projections have none."""
    return derived_uid("frame of reference", _told(provenance))


def series_uid(sample: Sample, provenance: Provenance, role: str = "series") -> str:
    """Of a sample: its modality, its values and its place count too, so that two images never share one."""
    return derived_uid(role, sample.modality, _digest(sample), _told(provenance))


def instance_uid(series: str, number: int) -> str:
    """Of the ``number``-th instance of a series."""
    return derived_uid("instance", series, number)


def patient_id(provenance: Provenance) -> str:
    """``MW-`` and 12 hexadecimal digits: one made-up patient per study, and nobody's."""
    return f"MW-{hashlib.sha256(f'patient {_told(provenance)}'.encode()).hexdigest()[:_SHORT]}"


def _told(provenance: Provenance) -> str:
    """What the files of a study share. Where an order is named, that stands for the prompts: each file has its own."""
    own = {"prompts"} if "order" in provenance.versions else set()
    return json.dumps(provenance.model_dump(mode="json", exclude=own), sort_keys=True)


def _digest(sample: Sample) -> str:
    digest = hashlib.sha256()
    if isinstance(sample.data, str):
        digest.update(sample.data.encode(errors="replace"))
    else:
        digest.update(np.ascontiguousarray(sample.data, dtype="<f4").tobytes())
    if sample.geometry is not None:
        digest.update(np.ascontiguousarray(sample.geometry.affine, dtype="<f8").tobytes())
    return digest.hexdigest()
