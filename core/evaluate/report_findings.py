"""Do generated texts mention the findings of the images that prompt them (method 6)?

The extractor of their data set reads the findings in real, reconstructed and generated texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from core.evaluate.bootstrap import mean_interval, mismatched_patients
from core.evaluate.classification import f1
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, TextFindings, validation_thresholds

_THRESHOLD = 0.5  # between 0 (absent, or not mentioned) and 1 (present)


def report_finding_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield the micro F1 of the findings in texts against the labels.

    The texts are the real ones (the upper bound), reconstructed and generated ones, and those generated for another
    patient (the lower bound).
    """
    for name in test_set.run.outputs:
        if test_set.run.parts(name).data.kind != "tokens":
            continue
        for source in test_set.run.prompt_sources(name):
            if source in test_set.grids:
                yield from _rows_of(test_set, source, name)


def _rows_of(test_set: TestSet, source: str, name: str) -> Iterator[MetricRow]:
    indices = test_set.comparable_indices(source, name)
    if not indices:
        return
    real = test_set.text_findings(test_set.texts(name, [test_set.studies.batch(name, indices)]), indices)
    findings = [finding for finding in test_set.findings if any(finding in mentioned for mentioned in real)]
    if not findings:  # no extractor reads these texts
        return
    batches = test_set.generated([name], indices, prompts=[source], couple=False, title=f"{source} to {name}")
    generated = test_set.text_findings(test_set.texts(name, batches[name]), indices)
    reconstructed = test_set.texts(name, test_set.reconstructed(name, indices))
    mismatched = mismatched_patients(len(indices), test_set.patients(indices))
    by_way = {
        "real": real,
        "reconstructed": test_set.text_findings(reconstructed, indices),
        "generated": generated,
        "another patient's prompt": [generated[row] for row in mismatched],
    }
    what = f"{name} from {source}: report findings, micro F1"
    for way, rows in by_way.items():
        yield _f1_row(test_set, f"{what}, {way}", rows, findings, indices, key=f"findings/{way}/{name}+{source}")
    if test_set.can_classify(source) and test_set.cohort.held_out.indices_with(source):
        seen = classified_findings(test_set, source, indices, findings)
        key = f"findings/classifier/{name}+{source}"
        yield _f1_row(test_set, f"{what}, a classifier on the same images", seen, findings, indices, key=key)
    legible = mean_interval([bool(row) for row in generated], test_set.patients(indices), seed=test_set.seed)
    yield metric_row(f"{name} from {source}: texts that mention a finding, present or absent", legible)


def classified_findings(
    test_set: TestSet, source: str, indices: Sequence[int], findings: Sequence[str]
) -> list[TextFindings]:
    """Return the findings that the classifier sees in real images, at the thresholds of best F1 on validation."""
    columns = [test_set.findings.index(finding) for finding in findings]
    seen = test_set.scores(source, test_set.data(source, indices)) > validation_thresholds(test_set, source)
    return [dict(zip(findings, row[columns].astype(int).tolist(), strict=True)) for row in seen]


def _f1_row(
    test_set: TestSet,
    what: str,
    texts: Sequence[TextFindings],
    findings: Sequence[str],
    indices: Sequence[int],
    *,
    key: str,
) -> MetricRow:
    """Return the micro F1, where a finding that a text mentions as present is a positive prediction, and no other."""
    scores = np.array([[text.get(finding, 0) for finding in findings] for text in texts], dtype=np.float64)
    columns = [test_set.findings.index(finding) for finding in findings]
    labels = test_set.labels(test_set.studies, indices)[:, columns]
    thresholds = np.full(len(findings), _THRESHOLD)
    score = f1(scores, labels, thresholds, findings, patients=test_set.patients(indices), seed=test_set.seed)
    return metric_row(what, score.micro, key=key)
