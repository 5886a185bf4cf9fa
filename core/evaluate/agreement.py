"""Does a generated image show what its prompt says? AUROC by finding (method 6; MedCoDi-M 3.5.2).

A finding classifier scores real images, reconstructions (the upper bound), generated images, and generated images
against another patient's prompt (the lower bound). Scores and labels are ``sample finding``; a label is 1 present, 0
absent, NaN unknown.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
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
from core.generate.conditioning import route_prompts

CHANCE = 0.5  # AUROC
FEWEST = 3  # samples with a detail, below which a finding is left out of it
_K = 5


def agreement_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield the mean AUROC on real, reconstructed and generated images, over the reliably classified findings."""
    centre = test_set.centre
    if centre is None or not test_set.findings:
        return
    for name in test_set.grids:
        if centre in test_set.run.prompt_sources(name):
            yield from _rows_of(test_set, centre, name)
        elif route_prompts(test_set.bundle, name, [centre]):
            together = bool(test_set.cohort.training.indices_with(centre, name))
            note = ", never a prompt in training" if together else ", never paired in training"
            yield from _rows_of(test_set, centre, name, note)


def _rows_of(test_set: TestSet, centre: str, name: str, note: str = "") -> Iterator[MetricRow]:
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
        what = f"{name}: findings, mean AUROC, {way}"
        yield metric_row(what, mean.macro, _by_finding(mean, reliable))
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
    what = f"{name}: agreement with {centre}{note}, AUROC relative to reconstruction"
    yield metric_row(what, ratio, key=f"agreement{note}/generated/{name}")
    texts = test_set.texts(centre, list(test_set.studies.batches(centre, indices)))
    details = test_set.text_details(texts, indices)
    by_detail = detail_labels(details, test_set.findings, labels, reliable)
    for detail, values in by_detail.items():
        what, key = f"{name}: agreement with {centre}{note}, {detail}", f"agreement by detail{note}/{detail}/{name}"
        yield from _detail_row(test_set, what, key, scores, values, patients)


def detail_labels(
    details: Sequence[Mapping[str, int]], findings: Sequence[str], labels: np.ndarray, reliable: np.ndarray
) -> dict[str, np.ndarray]:
    """Return labels ``sample finding`` by detail, such as a grade: 1 the finding has it, 0 the finding is absent.

    Details are ``FINDING/DETAIL`` of every text (`DatasetAdapter.details_of`). NaN: the finding is present without the
    detail, or not reliable, or fewer than `FEWEST` samples have the detail.
    """
    names = sorted({key.partition("/")[2] for each in details for key in each})
    chosen: dict[str, np.ndarray] = {}
    for detail in names:
        has = np.array([[each.get(f"{finding}/{detail}", 0) == 1 for finding in findings] for each in details])
        values = np.where(has, 1.0, np.where(labels == 0, 0.0, np.nan))
        values[:, ~reliable | (has.sum(0) < FEWEST)] = np.nan
        if not np.isnan(aurocs(values, values)).all():
            chosen[detail] = values
    return chosen


def _detail_row(
    test_set: TestSet,
    what: str,
    key: str,
    scores: Mapping[str, np.ndarray],
    labels: np.ndarray,
    patients: Sequence[Hashable],
) -> Iterator[MetricRow]:
    """Yield the AUROC above chance of studies with a detail, such as a grade, relative to that of reconstructions."""
    known = ~np.isnan(aurocs(labels, labels))
    means = {way: _mean_auroc(values[:, known], labels[:, known]) for way, values in scores.items()}
    if means["reconstructed"] <= CHANCE:
        return
    sides = scores["generated"], scores["reconstructed"]
    ratio = agreement_ratio(*sides, labels, reliable=known, patients=patients, seed=test_set.seed)
    reference = ", ".join(f"{way} {mean:.2f}" for way, mean in means.items())
    yield metric_row(f"{what}, AUROC relative to reconstruction", ratio, reference, key=key)


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
