"""Devices and shards of a batch."""

import pytest
import torch

from core.engine.distributed import BatchShard, resolve_device
from core.engine.rng import forked_rng, make_generator
from core.errors import UserError
from core.types import Batch

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_auto_takes_an_available_gpu():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("name", "expected"), [("gpu", "no device 'gpu'"), ("xla", "not supported|no device"), ("meta", "not supported")]
)
def test_unknown_devices(name, expected):
    with pytest.raises(UserError, match=expected):
        resolve_device(name)


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_no_gpu(name):
    with pytest.raises(UserError, match=f"device '{name}': .*choose --device cpu"):
        resolve_device(name)


@pytest.mark.parametrize("size", [4, 7, 16])
def test_shards_cover_a_batch_exactly_once(size):
    rows = [row for index in range(4) for row in range(size)[BatchShard(index, 4).rows(size)]]
    assert rows == list(range(size))


def test_weighted_means_average_to_the_mean():
    values = torch.arange(7.0)
    shares = [BatchShard(index, 3) for index in range(3)]
    terms = [shard.weighted({"a": values[shard.rows(7)].mean()}, 7)["a"] for shard in shares]
    assert float(torch.stack(terms).mean()) == pytest.approx(float(values.mean()))


@pytest.mark.parametrize("draw", [
    lambda rows, draws: torch.randn(rows, 3, generator=draws),
    lambda rows, draws: torch.randn((rows, 3), generator=draws),
    lambda rows, draws: torch.rand(size=(rows, 3), generator=draws),
    lambda rows, draws: torch.randn(torch.Size((rows, 3)), generator=draws, device="cpu"),
])  # fmt: skip
def test_a_shard_sees_the_noise_of_the_whole_batch(draw):
    whole = draw(20, make_generator(0, "noise"))
    parts = []
    for index in range(3):
        shard = BatchShard(index, 3)
        with shard.noise(20):
            rows = shard.rows(20)
            parts.append(draw(rows.stop - rows.start, make_generator(0, "noise")))
    assert torch.equal(torch.cat(parts), whole)


def test_forked_rng_restores_the_global_random_state():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with forked_rng(0, "weights"):
        first = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with forked_rng(0, "weights"):
        assert torch.equal(torch.rand(2), first)


def test_to_device_copies_into_aligned_memory(compute):
    batch = Batch(modality="a", data=torch.zeros(9)[1:], mask=torch.ones(8, dtype=torch.bool))
    placed = compute.to_device(batch)
    assert placed.data.data_ptr() % 64 == 0
    assert torch.equal(placed.data, batch.data)
    assert torch.equal(placed.mask, batch.mask)
