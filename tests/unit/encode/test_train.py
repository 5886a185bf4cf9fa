"""Batches of the autoencoder phase."""

from __future__ import annotations

import torch

from core.encode.train import draw_batch
from core.preprocess.collate import collate
from core.types import DataSpec, Sample

SPEC = DataSpec(kind="tokens", space=(40,), units="token", vocabulary=100)
LENGTHS = [3, 30, 7, 19, 11, 25, 5, 15]


class Texts:
    """Stands in for studies of eight texts of different lengths; text ``index`` begins with id ``index + 10``."""

    def sample(self, name, index):
        return Sample(modality=name, data=torch.full((LENGTHS[index],), index + 10).numpy(), meta={"canonical": True})

    def batch(self, name, indices):
        return collate([self.sample(name, index) for index in indices], SPEC)


def drawn(step, buckets, size=4):
    draws = torch.Generator().manual_seed(step)
    return draw_batch(Texts(), "text", range(8), size, draws, buckets)


def test_buckets_save_padding_and_leave_every_text_as_likely():
    padding = {}
    for buckets in (1, 6):
        batches = [drawn(step, buckets) for step in range(600)]
        assert all(len(batch) == 4 for batch in batches)
        padding[buckets] = sum(int((~batch.mask).sum()) for batch in batches)
        counts = torch.bincount(torch.cat([batch.data[:, 0] for batch in batches]) - 10, minlength=8)
        assert (counts / 2400 - 1 / 8).abs().max() < 0.03
    assert padding[6] < 0.3 * padding[1]


def test_a_batch_without_buckets_is_a_plain_draw():
    expected = torch.randint(0, 8, (4,), generator=torch.Generator().manual_seed(3))
    assert (drawn(3, 1).data[:, 0] - 10).tolist() == expected.tolist()
    assert torch.equal(drawn(3, 6).data, drawn(3, 6).data)
