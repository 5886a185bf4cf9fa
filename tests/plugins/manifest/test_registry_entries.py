"""The registry's data sets of pictures, where they are on this machine: every modality is read, every study captioned."""

from pathlib import Path

import numpy as np
import pytest

from core.config.registry import load_registry
from core.contract.discovery import discover
from plugins.manifest.datasets import MANIFEST

ENTRIES = load_registry(Path(__file__).parents[3] / "registry.toml").datasets
EXPECTED = {
    "bccd_blood_smear": {"photo_smear"},
    "busi_ultrasound": {"photo_ultrasound"},
    "dermamnist": {"photo_dermoscopy"},
    "drive_chase_fundus": {"photo_fundus"},
    "mixed_samples": {"photo_oct", "photo_histopathology", "photo_endoscopy"},
    "brats2013_2d": {"mri_t1", "mri_t1c", "mri_t2", "mri_flair"},
    "covid_cxr": {"xray_frontal", "xray_lateral"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_data_set_of_pictures(real_data, name):
    root, catalog, seen = real_data(name), discover(), set()
    records = list(MANIFEST.scan(root, **ENTRIES[name].options))
    for record in records:
        for modality, (path, *_) in record.files.items():
            if modality in seen:
                continue
            seen.add(modality)
            parts = catalog.modalities[modality].parts("tiny")
            canonical = parts.preprocess.build().apply(parts.reader.build().read(path))
            assert canonical.data.shape == (parts.data.channels, *parts.data.space)
            assert np.ptp(canonical.data) > 0.5
    assert seen == EXPECTED[name]
    texts = [record.texts.get("text", "") for record in records]
    assert sum(map(bool, texts)) >= len(records) - 1  # one X-ray study of covid_cxr has no note
    assert not any("{" in text for text in texts)
