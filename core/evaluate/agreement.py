"""Does a generated image show what its prompt says? AUROC by finding, of a judge's scores (METHOD 6; MedCoDi-M 3.5.2).

Scores and labels are ``sample finding``; a label is 1 present, 0 absent, NaN unknown. Rows for the same judge on real
images, on reconstructions (the ceiling) and on generated images with shuffled prompts (the floor) belong beside it.

Do generated images show what their prompts say? With the ceiling and the floor of the same judge (METHOD 6).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from core.errors import UserError
from core.evaluate.bootstrap import Interval, bootstrap, strangers
from core.evaluate.classification import auroc, aurocs
from core.evaluate.retrieval import Retrieval, retrieval
from core.evaluate.table import Line, line
from core.evaluate.test_set import Subjects, joined, readable_findings


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
    ``readable`` findings (bool ``finding``, see `core.evaluate.classification.readable`): 1 is as good, 0 is chance.
    One draw of patients serves both. A finding of which the studies hold one class only is left out, as in `agreement`; a resample
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


CHANCE = 0.5  # AUROC
_K = 5


def agreements(subjects: Subjects) -> Iterator[Line]:
    """Mean AUROC of a judge on real, reconstructed and generated images, over the findings that it can read."""
    centre = subjects.centre
    if centre is None or not subjects.findings:
        return
    for name in subjects.grids:
        if centre in subjects.run.prompt_sources(name):
            yield from _of(subjects, centre, name)


def _of(subjects: Subjects, centre: str, name: str) -> Iterator[Line]:
    places = subjects.enough(centre, name)
    if not places or not subjects.judged(name):
        return
    labels, who = subjects.labels(subjects.studies, places), subjects.patients(places)
    chosen = readable_findings(subjects, name)
    everyone = subjects.studies.indices_with(name)
    real = subjects.scores(name, subjects.data(name, everyone))
    found = found_by_labels(subjects, everyone, real).recall[_K]
    yield line(f"{name}: found by its labels through the judge, R@{_K}", found, "a practical ceiling")
    if not chosen.any():
        return
    made = subjects.generated([name], places, prompts=[centre], couple=False, title=f"{centre} to {name}")
    scores = {
        "real": subjects.scores(name, subjects.data(name, places)),
        "reconstructed": subjects.scores(name, joined(subjects.reconstructed(name, places))),
        "generated": subjects.scores(name, joined(made[name])),
    }
    scores["another patient's prompt"] = scores["generated"][strangers(len(places), who)]
    means = {
        way: agreement(found, labels, subjects.findings, chosen=chosen, patients=who, seed=subjects.seed)
        for way, found in scores.items()
    }
    for way, mean in means.items():
        yield line(f"{name}: findings, mean AUROC, {way}", mean.macro, _by_finding(mean, chosen))
    if not means["reconstructed"].macro.low > CHANCE:  # a share of nothing
        return
    ratio = agreement_ratio(
        scores["generated"], scores["reconstructed"], labels, readable=chosen, patients=who, seed=subjects.seed
    )
    yield line(f"{name}: agreement with {centre}, share of the ceiling", ratio)


def found_by_labels(subjects: Subjects, places: Sequence[int], scores: np.ndarray) -> Retrieval:
    """Images found by a reader who knows the labels: ranked by the likelihood that a judge gives to a study's labels.

    ``scores`` are the judge's logits ``sample finding`` of the images of the test studies at ``places``. What this many
    pixels and patients allow a network that learns labels.
    """
    labels = np.nan_to_num(subjects.labels(subjects.studies, places), nan=0.5)
    told, logits = torch.from_numpy(labels), torch.from_numpy(scores).double()
    return retrieval(
        torch.cat([told, 1 - told], 1),
        torch.cat([F.logsigmoid(logits), F.logsigmoid(-logits)], 1),
        patients=subjects.patients(places),
        at=(_K,),
        seed=subjects.seed,
    )


def _by_finding(found: Agreement, chosen: np.ndarray) -> str:
    """The findings that the judge reads, each with its AUROC; one that all or none of the studies have has none."""
    each = [(name, one.value) for (name, one), read in zip(found.by_finding.items(), chosen, strict=True) if read]
    return ", ".join(f"{name} {value:.2f}" for name, value in each if not np.isnan(value))
