"""Scores of a made-up classifier, whose AUROC is known."""

import numpy as np


def cohort(num: int, shifts: tuple[float, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a classifier for which present and absent are normal laws, this far apart."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, len(shifts))) < 0.4).astype(float)
    return rng.normal(size=labels.shape) + labels * np.array(shifts), labels
