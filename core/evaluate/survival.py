"""What an autoencoder keeps of a text: do the findings that it tells survive? (METHOD 6)"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.evaluate.interval import Interval, bootstrap, mean_interval

Told = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Survival:
    """``whole``: share of texts that tell of every finding what they told before.

    ``precision``: of the findings called present afterwards, those that were; ``recall``: of those that were, those
    that still are; both over all findings of all texts (micro), NaN where there is none.
    """

    whole: Interval
    precision: Interval
    recall: Interval


def survival(
    told_before: Sequence[Told],
    told_after: Sequence[Told],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Survival:
    """What each text tells (finding to 1 present or 0 absent; missing: not told) before and after, in the same order.

    A finding that was told and is not any more did not survive; one told as absent that nobody told of before is no
    loss, one told as present is.
    """
    pairs = list(zip(told_before, told_after, strict=True))
    kept = np.array([len(present(before) & present(after)) for before, after in pairs])
    before, after = (np.array([len(present(told)) for told in side]) for side in (told_before, told_after))

    def share(of: np.ndarray) -> Interval:
        def statistic(rows: np.ndarray) -> float:
            return float(kept[rows].sum() / of[rows].sum()) if of[rows].any() else float("nan")

        return bootstrap(statistic, len(pairs), patients=patients, seed=seed)

    whole = [survives(*pair) for pair in pairs]
    return Survival(whole=mean_interval(whole, patients, seed=seed), precision=share(after), recall=share(before))


def survives(before: Told, after: Told) -> bool:
    """Whether every finding is told as before, and none is called present that was not."""
    return all(after.get(finding) == told for finding, told in before.items()) and present(after) <= present(before)


def present(told: Told) -> set[str]:
    """The findings that are told as present."""
    return {finding for finding, value in told.items() if value == 1}


def exact_share(
    before: Sequence[Hashable],
    after: Sequence[Hashable],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """Share of texts that came back as they were, character by character or token by token."""
    same = [first == second for first, second in zip(before, after, strict=True)]
    return mean_interval(same, patients, seed=seed)
