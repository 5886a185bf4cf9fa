"""Do generated texts tell what the images that prompt them show? As the reader of their data set finds (METHOD 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from core.evaluate.bootstrap import mean_interval, strangers
from core.evaluate.classification import f1
from core.evaluate.table import Line, line
from core.evaluate.test_set import Subjects

_CALL = 0.5  # between told as absent, or not told, and told as present

Told = Mapping[str, int]


def tellings(subjects: Subjects) -> Iterator[Line]:
    """Micro F1 of what texts tell against the labels: the real ones, through the autoencoder, generated; the floor."""
    for name in subjects.run.outputs:
        if subjects.run.parts(name).data.kind != "tokens":
            continue
        for source in subjects.run.prompt_sources(name):
            if source in subjects.grids:
                yield from _of(subjects, source, name)


def _of(subjects: Subjects, source: str, name: str) -> Iterator[Line]:
    places = subjects.enough(source, name)
    if not places:
        return
    real = subjects.told(subjects.texts(name, [subjects.studies.batch(name, places)]), places)
    findings = [finding for finding in subjects.findings if any(finding in told for told in real)]
    if not findings:  # nobody reads these texts
        return
    made = subjects.generated([name], places, prompts=[source], couple=False, title=f"{source} to {name}")
    generated = subjects.told(subjects.texts(name, made[name]), places)
    others = strangers(len(places), subjects.patients(places))
    told = {
        "real": real,
        "reconstructed": subjects.told(subjects.texts(name, subjects.reconstructed(name, places)), places),
        "generated": generated,
        "another patient's prompt": [generated[other] for other in others],
    }
    for way, rows in told.items():
        yield _row(subjects, f"{name} from {source}: findings told, micro F1, {way}", rows, findings, places)
    legible = mean_interval([bool(one) for one in generated], subjects.patients(places), seed=subjects.seed)
    yield line(f"{name} from {source}: texts that tell of a finding, present or absent", legible)


def _row(subjects: Subjects, what: str, told: Sequence[Told], findings: Sequence[str], places: Sequence[int]) -> Line:
    """What is told of as present counts as a call; what is not told counts as none."""
    calls = np.array([[one.get(finding, 0) for finding in findings] for one in told], dtype=np.float64)
    columns = [subjects.findings.index(finding) for finding in findings]
    labels = subjects.labels(subjects.studies, places)[:, columns]
    thresholds = np.full(len(findings), _CALL)
    found = f1(calls, labels, thresholds, findings, patients=subjects.patients(places), seed=subjects.seed)
    return line(what, found.micro)
