"""E1 and E3 against independent implementations and closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.align.findings import finding_loss
from core.align.losses import barlow_twins, info_nce
from core.align.supervision import semantic_matching

GENERATOR = torch.Generator().manual_seed(0)


def unit(rows, width=16):
    return F.normalize(torch.randn(rows, width, generator=GENERATOR), dim=-1)


def info_nce_in_numpy(a, b, temperature):
    """The sums of the papers, written out."""
    similarity = np.exp(a.numpy().astype(np.float64) @ b.numpy().T / temperature)
    forward = -np.log(np.diag(similarity) / similarity.sum(1)).mean()
    backward = -np.log(np.diag(similarity) / similarity.sum(0)).mean()
    return forward + backward


@pytest.mark.parametrize("temperature", [0.07, 1.0, 0.02])
def test_info_nce_is_the_papers_sum(temperature):
    a, b = unit(9), unit(9)
    found = info_nce(a, b, torch.tensor(math.log(1 / temperature)))
    assert float(found) == pytest.approx(info_nce_in_numpy(a, b, temperature), rel=1e-5)


def test_info_nce_is_symmetric():
    a, b, scale = unit(7), unit(7), torch.tensor(2.0)
    assert float(info_nce(a, b, scale)) == pytest.approx(float(info_nce(b, a, scale)), rel=1e-6)


def test_info_nce_of_unrelated_constant_vectors_is_chance():
    a = unit(1).expand(8, -1)
    assert float(info_nce(a, a, torch.tensor(0.0))) == pytest.approx(2 * math.log(8), rel=1e-5)


def test_the_logit_scale_is_clamped_to_clips_range():
    a, b = unit(5), unit(5)
    assert float(info_nce(a, b, torch.tensor(50.0))) == float(info_nce(a, b, torch.tensor(math.log(100))))
    assert float(info_nce(a, b, torch.tensor(-3.0))) == float(info_nce(a, b, torch.tensor(0.0)))


def test_soft_targets_are_the_cross_entropies_written_out():
    a, b, temperature, softness = unit(6), unit(6), 0.3, 0.2
    alike = unit(6, width=3)
    alike = alike @ alike.T
    target = np.exp(alike.numpy() / softness)
    target /= target.sum(1, keepdims=True)
    found = 0.0
    for logits in (a.numpy() @ b.numpy().T / temperature, b.numpy() @ a.numpy().T / temperature):
        found -= (target * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean()
    loss = semantic_matching(a, b, torch.tensor(math.log(1 / temperature)), alike, softness)
    assert float(loss) == pytest.approx(found, rel=1e-5)


def test_soft_targets_of_studies_with_nothing_in_common_are_those_of_info_nce():
    a, b, scale = unit(5), unit(5), torch.tensor(1.0)
    sharp = semantic_matching(a, b, scale, torch.eye(5), 0.01)
    assert float(sharp) == pytest.approx(float(info_nce(a, b, scale)), rel=1e-6)


def test_the_loss_of_findings_is_the_cross_entropy_of_what_is_known():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    labels = torch.tensor([[1.0, float("nan"), 0.0], [0.0, 1.0, float("nan")]])
    probability = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    known = [probability[0, 0], 1 - probability[0, 2], 1 - probability[1, 0], probability[1, 1]]
    assert float(finding_loss(logits, labels)) == pytest.approx(-np.log(known).mean(), rel=1e-6)
    assert float(finding_loss(logits, torch.full((2, 3), float("nan")))) == 0


def test_equal_reports_are_no_negatives_of_each_other():
    """With rows 0 and 1 saying the same, the loss is that of the sums without those two terms."""
    a, b = unit(4), unit(4)
    equal = torch.eye(4, dtype=torch.bool)
    equal[0, 1] = equal[1, 0] = True
    similarity = torch.exp(a @ b.T)
    keep = ~equal | torch.eye(4, dtype=torch.bool)
    forward = -(similarity.diagonal() / (similarity * keep).sum(1)).log().mean()
    backward = -(similarity.diagonal() / (similarity * keep).sum(0)).log().mean()
    assert float(info_nce(a, b, torch.tensor(0.0), equal)) == pytest.approx(float(forward + backward), rel=1e-5)


def barlow_in_loops(z1, z2, weight):
    z1, z2 = z1.numpy().astype(np.float64), z2.numpy().astype(np.float64)
    n, d = z1.shape
    total = 0.0
    for i in range(d):
        for j in range(d):
            x, y = z1[:, i], z2[:, j]
            c = ((x - x.mean()) * (y - y.mean())).sum() / n / (x.std() * y.std())
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total / d


def test_barlow_twins_is_the_double_sum():
    z1, z2 = torch.randn(12, 5, generator=GENERATOR), torch.randn(12, 5, generator=GENERATOR)
    assert float(barlow_twins(z1, z2)) == pytest.approx(barlow_in_loops(z1, z2, 0.0051), rel=1e-4)
    assert float(barlow_twins(z1, z2, 1.0)) == pytest.approx(barlow_in_loops(z1, z2, 1.0), rel=1e-4)


def test_barlow_twins_of_equal_uncorrelated_views_is_zero():
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_twins(z, z)) == pytest.approx(0.0, abs=1e-6)
    assert float(barlow_twins(z, 3 * z + 7)) == pytest.approx(0.0, abs=1e-6), "scale and shift do not matter"


def test_barlow_twins_of_opposite_views_is_four():
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_twins(z, -z)) == pytest.approx(4.0, abs=1e-5)


def test_barlow_twins_of_a_constant_column_is_finite():
    z = torch.randn(6, 3, generator=GENERATOR)
    z[:, 0] = 1.0
    assert torch.isfinite(barlow_twins(z, z))
