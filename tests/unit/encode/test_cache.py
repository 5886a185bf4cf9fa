"""The latent cache: mean and log-variance, made again only where data or weights are others."""

import pytest
import torch

from core.data.studies import Studies
from core.encode import cache
from core.encode.cache import cached_latents
from core.engine.checkpoint import read_tensors
from core.engine.distributed import Compute
from core.engine.rng import forked_rng
from core.testing.toy import TOY_GRID, scan, write_cohort


@pytest.fixture
def studies(tmp_path):
    write_cohort(tmp_path / "toy", 30)
    records = list(scan(tmp_path / "toy"))
    return Studies(records, [("toy_grid",)] * len(records), {"toy_grid": TOY_GRID.parts("tiny")})


@pytest.fixture
def encode(studies, tmp_path, monkeypatch):
    """Caches in shards of 8; counts how many batches were encoded."""
    monkeypatch.setattr(cache, "_SHARD", 8)
    with forked_rng(0, "net"):
        module = TOY_GRID.parts("tiny").autoencoder.build()
    calls, plain = [], module.encode
    module.encode = lambda batch: calls.append(len(batch)) or plain(batch)

    def call(of=studies):
        calls.clear()
        latents = cached_latents(module, "toy_grid", range(30), of, tmp_path / "latents", Compute("cpu"))
        return latents, list(calls)

    call.module, call.folder = module, tmp_path / "latents" / "toy_grid"
    return call


def test_it_holds_mean_and_log_variance_in_order(encode, studies):
    latents, _ = encode()
    posterior = encode.module.encode(studies.batch("toy_grid", [17]))
    assert torch.allclose(latents.mean[17], posterior.mean[0], atol=1e-6)
    assert torch.allclose(latents.logvar[17], posterior.logvar[0], atol=1e-6)
    assert set(read_tensors(encode.folder / "00000.safetensors")[0]) == {"mean", "logvar"}


def test_an_interruption_costs_a_single_file(encode):
    first, calls = encode()
    assert calls == [8, 8, 8, 6]
    (encode.folder / "00002.safetensors").unlink()
    broken = encode.folder / "00003.safetensors"
    broken.write_bytes(broken.read_bytes()[:-9])
    second, calls = encode()
    assert calls == [8, 6]
    assert torch.equal(first.mean, second.mean)
    assert encode()[1] == []


def test_other_weights_or_files_make_it_again(encode, studies):
    encode()
    with torch.no_grad():
        encode.module.encoder[-1].bias[0] += 1
    assert encode()[1] == [8, 8, 8, 6]
    path = studies.records[5].files["toy_grid"][0]
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\x3f")
    assert encode()[1] == [8, 8, 8, 6]
