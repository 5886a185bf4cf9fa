"""A stranger for every sample: a sample of another patient, for the floors of paired measures."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from core.errors import UserError
from core.evaluate.interval import groups


def strangers(num: int, patients: Sequence[Hashable] | None = None) -> list[int]:
    """For every sample the place of another patient's; each is used once, and nothing is drawn.

    Samples are put in the order of their patients and turned by the size of the largest one: without ``patients`` each
    gets the sample before it. Raises `UserError` where one patient has more than half of the samples.
    """
    group, _ = groups(num, patients)
    most = int(np.bincount(group).max())
    if 2 * most > num:
        raise UserError(f"{most} of {num} samples are of one patient: there are too few of others to compare with")
    order = np.argsort(group, kind="stable")
    place = np.empty(num, dtype=np.int64)
    place[order] = np.roll(order, most)
    return place.tolist()
