"""Retrieval in the shared space (METHOD 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def recall_at(queries: Tensor, gallery: Tensor, k: int) -> float:
    """Share of queries whose own entry is among the ``k`` nearest of the gallery.

    Both ``sample width`` of unit norm, in the same order. An entry that is as near as the own one counts as nearer, so
    a collapsed encoder scores 0. Chance is ``k / len(gallery)``.
    """
    similarity = queries @ gallery.T
    own = similarity.diagonal()[:, None]
    rank = (similarity >= own).sum(1) - 1
    return float((rank < k).float().mean())
