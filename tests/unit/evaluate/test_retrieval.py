import pytest
import torch
import torch.nn.functional as F

from core.evaluate.retrieval import recall_at


def test_a_collapsed_encoder_finds_nothing():
    """Every entry ties with the own one, and a tie counts as nearer."""
    same = F.normalize(torch.ones(8, 4), dim=-1)
    assert [recall_at(same, same, k) for k in (1, 5, 7, 8)] == [0, 0, 0, 1]


def test_one_tie_costs_one_place():
    gallery = torch.eye(4)
    gallery[1] = gallery[0]
    assert recall_at(gallery, gallery, 1) == 0.5
    assert recall_at(gallery, gallery, 2) == 1


@pytest.mark.parametrize(("k", "share"), [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)])
def test_rank_of_the_own_entry(k, share):
    """Query i has i entries of the gallery nearer than its own."""
    similarity = torch.zeros(4, 4)
    for row in range(4):
        similarity[row, row] = 0.5
        similarity[row, [index for index in range(4) if index != row][:row]] = 0.9
    assert recall_at(similarity, torch.eye(4), k) == share


def test_chance_is_k_in_the_size_of_the_gallery():
    draws = torch.Generator().manual_seed(0)
    queries, gallery = (F.normalize(torch.randn(2000, 16, generator=draws), dim=-1) for _ in range(2))
    assert recall_at(queries, gallery, 200) == pytest.approx(0.1, abs=0.02)
