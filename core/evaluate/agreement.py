"""Does a generated image show what its prompt says? AUROC by finding (method 6; MedCoDi-M 3.5.2).

A finding classifier scores real images, reconstructions (the upper bound), generated images, and generated images
against another patient's prompt (the lower bound). Scores and labels are ``sample finding``; a label is 1 present, 0
absent, NaN unknown.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from core.errors import UserError
from core.evaluate.bootstrap import ConfidenceInterval, bootstrap, mismatched_patients
from core.evaluate.classification import auroc, aurocs
from core.evaluate.retrieval import Retrieval, retrieval
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, joined, reliable_on_validation

CHANCE = 0.5  # AUROC
_K = 5


def agreement_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield the mean AUROC on real, reconstructed and generated images, over the reliably classified findings."""
    centre = test_set.centre
    if centre is None or not test_set.findings:
        return
    for name in test_set.grids:
        if centre in test_set.run.prompt_sources(name):
            yield from _rows_of(test_set, centre, name)


def _rows_of(test_set: TestSet, centre: str, name: str) -> Iterator[MetricRow]:
    indices = test_set.comparable_indices(centre, name)
    if not indices or not test_set.can_classify(name):
        return
    labels, patients = test_set.labels(test_set.studies, indices), test_set.patients(indices)
    reliable = reliable_on_validation(test_set, name)
    everyone = test_set.studies.indices_with(name)
    real = test_set.scores(name, test_set.data(name, everyone))
    by_labels = retrieve_by_labels(test_set, everyone, real).recall[_K]
    yield metric_row(f"{name}: label-based upper bound, R@{_K}", by_labels, "of retrieval by report")
    if not reliable.any():
        return
    generated = test_set.generated([name], indices, prompts=[centre], couple=False, title=f"{centre} to {name}")
    scores = {
        "real": test_set.scores(name, test_set.data(name, indices)),
        "reconstructed": test_set.scores(name, joined(test_set.reconstructed(name, indices))),
        "generated": test_set.scores(name, joined(generated[name])),
    }
    scores["another patient's prompt"] = scores["generated"][mismatched_patients(len(indices), patients)]
    means = {
        way: agreement(values, labels, test_set.findings, chosen=reliable, patients=patients, seed=test_set.seed)
        for way, values in scores.items()
    }
    for way, mean in means.items():
        yield metric_row(f"{name}: findings, mean AUROC, {way}", mean.macro, _by_finding(mean, reliable))
    if not means["reconstructed"].macro.low > CHANCE:  # nothing to be relative to
        return
    ratio = agreement_ratio(
        scores["generated"],
        scores["reconstructed"],
        labels,
        reliable=reliable,
        patients=patients,
        seed=test_set.seed,
    )
    yield metric_row(f"{name}: agreement with {centre}, AUROC relative to reconstruction", ratio)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """AUROC by finding, and its mean over the chosen findings in which both classes occur; NaN where there is none."""

    by_finding: dict[str, ConfidenceInterval]
    macro: ConfidenceInterval


def agreement(
    scores: ArrayLike,
    labels: ArrayLike,
    findings: Sequence[str],
    *,
    chosen: Sequence[bool] | np.ndarray | None = None,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Agreement:
    """Return the AUROC of every finding where a label exists, and the macro mean over ``chosen``.

    ``chosen`` is bool ``finding``; without it all findings are averaged. A resample in which one of the averaged
    findings loses a class has no mean: it is left out, and counted.
    """
    scores, labels = _require_same_shape(scores, labels, len(findings))
    averaged = ~np.isnan(aurocs(scores, labels)) & (True if chosen is None else np.asarray(chosen, dtype=bool))

    def macro(rows: np.ndarray) -> float:
        return _mean_auroc(scores[rows][:, averaged], labels[rows][:, averaged])

    def interval(column: int) -> ConfidenceInterval:
        def of_finding(rows: np.ndarray) -> float:
            return auroc(scores[rows, column], labels[rows, column])

        return bootstrap(of_finding, len(scores), patients=patients, seed=seed)

    return Agreement(
        by_finding={name: interval(column) for column, name in enumerate(findings)},
        macro=bootstrap(macro, len(scores), patients=patients, seed=seed),
    )


def agreement_ratio(
    generated: ArrayLike,
    reconstructed: ArrayLike,
    labels: ArrayLike,
    *,
    reliable: Sequence[bool] | np.ndarray,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> ConfidenceInterval:
    """Return the AUROC above chance of generated images relative to that of reconstructions.

    This is (AUROC - 1/2) of generated images over that of reconstructions of the same studies' images, both averaged
    over the ``reliable`` findings (bool ``finding``, see `core.evaluate.classification.reliable_findings`): 1 is as
    good as a reconstruction, 0 is chance. The same resamples of patients serve both. A finding of which the studies
    hold one class only is left out, as in `agreement`. A resample in which another finding loses a class, or in which
    reconstructions are no better than chance, has no ratio and is left out. The ratio is NaN where no reliable finding
    has both classes. Raises `UserError` where no finding is reliable.
    """
    chosen = np.asarray(reliable, dtype=bool)
    generated, labels = _require_same_shape(generated, labels, len(chosen))
    reconstructed, _ = _require_same_shape(reconstructed, labels, len(chosen))
    if not chosen.any():
        raise UserError(
            "no finding is classified reliably on real images: this classifier can measure nothing on generated ones"
        )
    chosen = chosen & ~np.isnan(aurocs(generated, labels))
    generated, reconstructed, known = generated[:, chosen], reconstructed[:, chosen], labels[:, chosen]

    def ratio(rows: np.ndarray) -> float:
        above = _mean_auroc(reconstructed[rows], known[rows]) - CHANCE
        return (_mean_auroc(generated[rows], known[rows]) - CHANCE) / above if above > 0 else float("nan")

    return bootstrap(ratio, len(labels), patients=patients, seed=seed)


def _mean_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the findings; NaN where a finding has no AUROC, or there is no finding."""
    values = aurocs(scores, labels)
    return float(values.mean()) if len(values) else float("nan")


def _require_same_shape(scores: ArrayLike, labels: ArrayLike, num_findings: int) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape or scores.shape[1:] != (num_findings,):
        shapes = f"{scores.shape} and {labels.shape}"
        raise ValueError(f"scores and labels are 'sample finding' with {num_findings} findings, found {shapes}")
    return scores, labels


def retrieve_by_labels(test_set: TestSet, indices: Sequence[int], scores: np.ndarray) -> Retrieval:
    """Rank images by the likelihood that a classifier gives to a study's labels, and return the retrieval.

    ``scores`` are the classifier's logits ``sample finding`` of the images of the test studies at ``indices``. This is
    the practical upper bound of retrieval by report: what these images allow a network that learns labels.
    """
    labels = np.nan_to_num(test_set.labels(test_set.studies, indices), nan=0.5)
    present, logits = torch.from_numpy(labels), torch.from_numpy(scores).double()
    return retrieval(
        torch.cat([present, 1 - present], 1),
        torch.cat([F.logsigmoid(logits), F.logsigmoid(-logits)], 1),
        patients=test_set.patients(indices),
        at=(_K,),
        seed=test_set.seed,
    )


def _by_finding(mean: Agreement, reliable: np.ndarray) -> str:
    """Return the reliable findings with their AUROC; a finding that all or none of the studies have has none."""
    values = [
        (name, auc.value) for (name, auc), chosen in zip(mean.by_finding.items(), reliable, strict=True) if chosen
    ]
    return ", ".join(f"{name} {value:.2f}" for name, value in values if not np.isnan(value))
