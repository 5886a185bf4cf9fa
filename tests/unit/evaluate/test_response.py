"""Response to prompt, given partner and seed, of a model whose dependence on each is planted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.evaluate.images.response import MOST, response_rows, rms_change, spread_between_studies
from core.types import Batch
from tests.unit.evaluate.fake_images import FakeTestSet, spec

NUM = 40
REAL = torch.linspace(-0.5, 0.5, NUM).view(-1, 1, 1, 1).expand(NUM, 1, 8, 8)


def test_changes_in_closed_form():
    assert rms_change(torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)).tolist() == [0.5, 0.5]
    test_set = FakeTestSet({"ct": spec()}, {"ct": REAL})
    expected = float((REAL - REAL.roll(1, 0)).abs().flatten(1).mean(1).mean())
    assert spread_between_studies(test_set, "ct") == pytest.approx(expected, rel=1e-5)


class Planted(FakeTestSet):
    """Images change by ``effects`` times the spread of real studies with the seed, the prompt and the given partner."""

    def __init__(self, effects):
        super().__init__({"ct": spec(), "mri": spec()}, {"ct": REAL, "mri": REAL}, pairs=[("ct", "mri")])
        self.step = spread_between_studies(self, "ct")
        self.effects = effects
        self.ways = {"generated, prompted": {"ct": REAL, "mri": REAL}}

    def generated(
        self, outputs, indices, *, prompts=(), given=(), other_prompts=False, draw=0, shuffled=False, title=""
    ):
        assert bool(given) != bool(prompts)
        changed = {"seed": draw > 0, "prompt": other_prompts, "given": shuffled}
        shift = self.step * sum(self.effects[what] for what, is_other in changed.items() if is_other)
        return {name: [Batch(modality=name, data=REAL[: len(indices)] + shift)] for name in outputs}


def test_every_input_is_exchanged_alone():
    found = {row.what: row.value for row in response_rows(Planted({"seed": 0.75, "prompt": 0.25, "given": 0.0}))}
    for name, other in (("ct", "mri"), ("mri", "ct")):
        assert found[f"{name}: response to the seed"] == pytest.approx(0.75, rel=1e-4)
        assert found[f"{name}: response to the prompt"] == pytest.approx(0.25, rel=1e-4)
        assert found[f"{name}: response to the given {other}"] == pytest.approx(0.0, abs=1e-6)
    assert len(found) == 6


def test_few_studies_are_generated_again():
    test_set = Planted({"seed": 0.0, "prompt": 0.0, "given": 0.0})
    seen = []
    generated = test_set.generated
    test_set.generated = lambda outputs, indices, **how: (
        seen.append((len(indices), how)) or generated(outputs, indices, **how)
    )
    list(response_rows(test_set))
    again = [num for num, how in seen if how.get("draw") or how.get("other_prompts") or how.get("shuffled")]
    assert set(again) == {MOST}
    assert np.all([num in (MOST, NUM) for num, _ in seen])


def test_without_prompts_there_is_no_response_to_them():
    test_set = Planted({"seed": 0.5, "prompt": 0.0, "given": 0.0})
    test_set.ways, test_set.bundle = {"generated, no prompt": {"ct": REAL}}, SimpleNamespace(trained_pairs=())
    test_set.generated = lambda outputs, indices, **how: {
        "ct": [Batch(modality="ct", data=REAL[: len(indices)] + test_set.step)]
    }
    assert [row.what for row in response_rows(test_set)] == ["ct: response to the seed"]
