"""Ranks, chance, ceiling and matched galleries against hand-worked cases and simulation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import core  # noqa: F401
from core.evaluate.retrieval import ranks, reachable, recall_at, retrieval


def directions(num: int, width: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(num, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_hand_worked_ranks():
    gallery = torch.eye(3)
    queries = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.4, 0.1], [0.3, 0.3, 0.3]])
    assert ranks(queries, gallery).tolist() == [0, 1, 2], "own nearest; one nearer; two as near count as nearer"
    found = retrieval(queries, gallery, at=(1, 2, 3))
    assert [found.recall[k].value for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert found.median_rank.value == 2.0
    assert [found.chance[k] for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert found.ceiling == {1: 1.0, 2: 1.0, 3: 1.0}


def test_ranks_agree_with_recall_and_with_a_plain_loop():
    queries, gallery = directions(60, 8), F.normalize(directions(60, 8) + directions(60, 8, 1), dim=1)
    plain = [sum(float(q @ g) >= float(q @ own) for g in gallery) - 1 for q, own in zip(queries, gallery, strict=True)]
    assert ranks(queries, gallery).tolist() == plain
    found = retrieval(queries, gallery)
    for k in (1, 5, 10):
        assert found.recall[k].value == pytest.approx(recall_at(queries, gallery, k))
        assert found.recall[k].low <= found.recall[k].value <= found.recall[k].high
    assert 0.3 < found.recall[5].value < 1.0, "neither end, or the case shows nothing"


def test_chance_is_what_unrelated_embeddings_reach():
    recalls = [retrieval(directions(50, 4, 2 * s), directions(50, 4, 2 * s + 1)).recall[5].value for s in range(30)]
    assert np.mean(recalls) == pytest.approx(5 / 50, abs=0.02)


def test_a_collapsed_encoder_finds_nothing():
    found = retrieval(torch.ones(20, 4) / 2, torch.ones(20, 4) / 2)
    assert found.recall[10].value == 0.0
    assert found.median_rank.value == 20.0


def test_the_ceiling_is_what_a_guess_among_equal_entries_reaches():
    """Groups of 1, 2 and 7 equal entries; who knows the group and guesses within it, finds the own entry so often."""
    group = np.repeat([0, 1, 2], [1, 2, 7])
    equal = torch.from_numpy(group[:, None] == group)
    found = retrieval(directions(10, 4), directions(10, 4), equal=equal)
    assert found.ceiling[1] == pytest.approx((1 + 2 / 2 + 7 / 7) / 10)
    assert found.ceiling[5] == pytest.approx((3 + 7 * 5 / 7) / 10)
    gallery = torch.eye(3)[group]
    simulated = []
    for seed in range(400):
        nudged = gallery + 1e-3 * torch.rand(10, 3, generator=torch.Generator().manual_seed(seed))
        simulated.append((ranks(gallery, nudged) < 1).mean())
    assert np.mean(simulated) == pytest.approx(found.ceiling[1], abs=0.03)


def test_matched_galleries_rank_within_the_stratum():
    """The nearest wrong entry is of another stratum: in matched galleries it is not looked at."""
    strata = ["small", "small", "large", "large"]
    gallery = torch.eye(4)
    queries = torch.tensor([[0.5, 0.1, 0.8, 0.0], [0.1, 0.5, 0.0, 0.8], [0.8, 0.0, 0.5, 0.6], [0.0, 0.8, 0.1, 0.5]])
    assert ranks(queries, gallery).tolist() == [1, 1, 2, 1]
    assert ranks(queries, gallery, strata).tolist() == [0, 0, 1, 0]
    found = retrieval(queries, gallery, strata=strata, equal=torch.ones(4, 4, dtype=torch.bool), at=(1, 5))
    assert found.recall[1].value == 0.75
    assert found.chance == {1: 0.5, 5: 1.0}
    assert found.ceiling == {1: 0.5, 5: 1.0}, "equal entries of another stratum do not stand in the way"


def test_unequal_strata_have_the_mean_of_their_chances():
    found = retrieval(directions(5, 3), directions(5, 3), strata=[1, 1, 1, 1, 2], at=(1,))
    assert found.chance[1] == pytest.approx((4 * 0.25 + 1.0) / 5)
    assert reachable([4, 4, 4, 4, 1], 2) == pytest.approx((4 * 0.5 + 1.0) / 5)


def test_queries_of_one_patient_widen_the_interval():
    """Every query five times: five times the samples, no more patients."""
    queries, gallery = directions(40, 6), F.normalize(directions(40, 6) + 1.5 * directions(40, 6, 1), dim=1)
    rank = ranks(queries, gallery)
    five_queries, five_gallery = queries.repeat(5, 1), gallery.repeat(5, 1)
    strata = np.repeat(np.arange(5), 40).tolist()
    patients = np.tile(np.arange(40), 5).tolist()
    by_patient = retrieval(five_queries, five_gallery, strata=strata, patients=patients).recall[1]
    by_query = retrieval(five_queries, five_gallery, strata=strata).recall[1]
    once = retrieval(queries, gallery).recall[1]
    assert 0 < (rank < 1).mean() < 1
    assert (by_patient.low, by_patient.high) == pytest.approx((once.low, once.high))
    assert by_query.high - by_query.low < 0.7 * (once.high - once.low)


def test_recall_of_a_collapsed_encoder_is_zero():
    """Every entry ties with the match, and a tie counts as nearer."""
    same = F.normalize(torch.ones(8, 4), dim=-1)
    assert [recall_at(same, same, k) for k in (1, 5, 7, 8)] == [0, 0, 0, 1]


def test_one_tie_costs_one_rank():
    gallery = torch.eye(4)
    gallery[1] = gallery[0]
    assert recall_at(gallery, gallery, 1) == 0.5
    assert recall_at(gallery, gallery, 2) == 1


@pytest.mark.parametrize(("k", "share"), [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)])
def test_rank_of_the_match(k, share):
    """Query i has i entries of the gallery nearer than its match."""
    similarity = torch.zeros(4, 4)
    for row in range(4):
        similarity[row, row] = 0.5
        similarity[row, [index for index in range(4) if index != row][:row]] = 0.9
    assert recall_at(similarity, torch.eye(4), k) == share


def test_chance_is_k_in_the_size_of_the_gallery():
    draws = torch.Generator().manual_seed(0)
    queries, gallery = (F.normalize(torch.randn(2000, 16, generator=draws), dim=-1) for _ in range(2))
    assert recall_at(queries, gallery, 200) == pytest.approx(0.1, abs=0.02)
