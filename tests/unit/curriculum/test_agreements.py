"""The rows of agreement with the prompt: one judge for real, reconstructed and generated images, and the floor."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.curriculum.measures.agreement import agreements
from core.types import Batch, Record

NUM, FINDINGS = 120, ("effusion", "nodule")


class FakeSubjects:
    """Images are their labels plus noise, and the judge reads them as they are; ``fidelity`` of what is generated."""

    def __init__(self, fidelity):
        draw = np.random.default_rng(0)
        self.truth = draw.integers(0, 2, (NUM, 2)).astype(float)
        noise = draw.normal(size=(3, NUM, 2))
        self.images = {"real": 3 * self.truth + noise[0], "reconstructed": 2 * self.truth + noise[1]}
        self.images["generated"] = fidelity * self.truth + noise[2]
        self.centre, self.grids, self.findings, self.seed = "told", ("picture",), FINDINGS, 0
        self.run = SimpleNamespace(prompt_sources=lambda name: ("told",))
        records = [Record(patient=str(index), study=str(index)) for index in range(NUM)]
        self.studies = SimpleNamespace(records=records, having=lambda *names: list(range(NUM)))
        self.course = SimpleNamespace(cohort=SimpleNamespace(held_out=self.studies))
        self.asked = []

    def enough(self, *names):
        return list(range(NUM))

    def judged(self, name):
        return True

    def labels(self, studies, places):
        return self.truth[list(places)]

    def patients(self, places):
        return list(places)

    def data(self, name, places, studies=None):
        return torch.from_numpy(self.images["real"][list(places)])

    def scores(self, name, data):
        return data.numpy()

    def reconstructed(self, name, places):
        return [Batch(modality=name, data=torch.from_numpy(self.images["reconstructed"]))]

    def generated(self, outputs, places, **settings):
        self.asked.append(settings)
        return {name: [Batch(modality=name, data=torch.from_numpy(self.images["generated"]))] for name in outputs}


@pytest.mark.parametrize(("fidelity", "low", "high"), [(2.0, 0.85, 1.15), (0.0, -0.25, 0.25)])
def test_rows_and_share_of_the_ceiling(fidelity, low, high):
    subjects = FakeSubjects(fidelity)
    lines = {line.what: line for line in agreements(subjects)}
    means = {
        way: lines[f"picture: findings, mean AUROC, {way}"].value for way in ("real", "reconstructed", "generated")
    }
    assert means["real"] > means["reconstructed"] > 0.8
    floor = lines["picture: findings, mean AUROC, another patient's prompt"]
    assert floor.low < 0.5 < floor.high
    ratio = lines["picture: agreement with told, share of the ceiling"]
    assert low < ratio.value < high
    assert ratio.low < ratio.value < ratio.high
    assert subjects.asked == [{"prompts": ["told"], "couple": False, "title": "told to picture"}]
    assert lines["picture: found by its labels through the judge, R@5"].value > 5 / NUM


def test_no_share_of_a_ceiling_that_is_chance():
    subjects = FakeSubjects(1.0)
    subjects.images["reconstructed"] = subjects.images["reconstructed"] - 2.3 * subjects.truth
    assert "picture: agreement with told, share of the ceiling" not in {line.what for line in agreements(subjects)}


def test_nothing_readable_nothing_generated():
    subjects = FakeSubjects(1.0)
    subjects.images["real"] = np.random.default_rng(2).normal(size=(NUM, 2))
    lines = [line.what for line in agreements(subjects)]
    assert lines == ["picture: found by its labels through the judge, R@5"]
    assert subjects.asked == []
