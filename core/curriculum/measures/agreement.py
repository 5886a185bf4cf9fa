"""Do generated images show what their prompts say? With the ceiling and the floor of the same judge (METHOD 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from core.curriculum.measures.calls import readable_findings
from core.curriculum.measures.subjects import Subjects, joined
from core.curriculum.table import Line, line
from core.evaluate.agreement import Agreement, agreement, agreement_ratio
from core.evaluate.retrieval import Retrieval, retrieval
from core.evaluate.strangers import strangers

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
    everyone = subjects.studies.having(name)
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
