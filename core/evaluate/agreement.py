"""Does a generated image show what its prompt says? AUROC by finding, of a judge's scores (METHOD 6; MedCoDi-M 3.5.2).

Scores and labels are ``sample finding``; a label is 1 present, 0 absent, NaN unknown. Rows for the same judge on real
images, on reconstructions (the ceiling) and on generated images with shuffled prompts (the floor) belong beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.errors import UserError
from core.evaluate.auroc import auroc, aurocs
from core.evaluate.interval import Interval, bootstrap


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """AUROC by finding, and its mean over the chosen ones in which both classes occur; NaN where there is none."""

    by_finding: dict[str, Interval]
    macro: Interval


def agreement(
    scores: ArrayLike,
    labels: ArrayLike,
    findings: Sequence[str],
    *,
    chosen: Sequence[bool] | np.ndarray | None = None,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Agreement:
    """AUROC of every finding where a label exists, and the macro mean over ``chosen`` (bool ``finding``; else all).

    A resample in which one of the averaged findings loses a class has no mean: it is left out, and counted.
    """
    scores, labels = _checked(scores, labels, len(findings))
    averaged = ~np.isnan(aurocs(scores, labels)) & (True if chosen is None else np.asarray(chosen, dtype=bool))

    def macro(rows: np.ndarray) -> float:
        return _mean_auroc(scores[rows][:, averaged], labels[rows][:, averaged])

    def interval(place: int) -> Interval:
        def of_finding(rows: np.ndarray) -> float:
            return auroc(scores[rows, place], labels[rows, place])

        return bootstrap(of_finding, len(scores), patients=patients, seed=seed)

    return Agreement(
        by_finding={name: interval(place) for place, name in enumerate(findings)},
        macro=bootstrap(macro, len(scores), patients=patients, seed=seed),
    )


def agreement_ratio(
    generated: ArrayLike,
    reconstructed: ArrayLike,
    labels: ArrayLike,
    *,
    readable: Sequence[bool] | np.ndarray,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """How much of what survives the autoencoder the generator reaches.

    (AUROC - 1/2) of generated images over that of reconstructions of the same studies' images, both averaged over the
    ``readable`` findings (bool ``finding``, see `core.evaluate.auroc.readable`): 1 is as good, 0 is chance. One draw of
    patients serves both. A finding of which the studies hold one class only is left out, as in `agreement`; a resample
    in which another loses a class, or reconstructions are no better than chance, has no ratio and is left out. NaN
    where no readable finding has both classes. Raises `UserError` where no finding is readable.
    """
    chosen = np.asarray(readable, dtype=bool)
    generated, labels = _checked(generated, labels, len(chosen))
    reconstructed, _ = _checked(reconstructed, labels, len(chosen))
    if not chosen.any():
        raise UserError("no finding is readable on real images: this judge can say nothing of generated ones")
    chosen = chosen & ~np.isnan(aurocs(generated, labels))
    made, kept, told = generated[:, chosen], reconstructed[:, chosen], labels[:, chosen]

    def ratio(rows: np.ndarray) -> float:
        above = _mean_auroc(kept[rows], told[rows]) - 0.5
        return (_mean_auroc(made[rows], told[rows]) - 0.5) / above if above > 0 else float("nan")

    return bootstrap(ratio, len(labels), patients=patients, seed=seed)


def _mean_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """NaN where a finding has none, or there is no finding."""
    found = aurocs(scores, labels)
    return float(found.mean()) if len(found) else float("nan")


def _checked(scores: ArrayLike, labels: ArrayLike, num_findings: int) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape or scores.shape[1:] != (num_findings,):
        found = f"{scores.shape} and {labels.shape}"
        raise ValueError(f"scores and labels are 'sample finding' with {num_findings} findings, found {found}")
    return scores, labels
