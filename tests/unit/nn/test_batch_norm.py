"""Batch normalisation over processes: outputs, gradients and running statistics are those of one with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.nn import GridPromptEncoderConfig
from core.nn.batch_norm import BatchNorm2d
from core.types import Batch

ROWS = 7  # do not halve
CONFIG = GridPromptEncoderConfig(
    channels=1, space=(16, 16), patch=8, convolutions=(4, 4, 8, 8), regions=2, width=8, depth=1, num_heads=2, prompt_width=6
)  # fmt: skip


def encoded(rows: slice) -> dict[str, torch.Tensor]:
    """What training leaves of a loss that each process takes of its own rows."""
    torch.manual_seed(0)
    encoder, data = CONFIG.build().train(), torch.randn(ROWS, 1, 16, 16) * 3 + 1
    weight = torch.randn(ROWS, 6)
    pooled = encoder(Batch(modality="a", data=data[rows])).pooled
    (pooled * weight[rows]).sum().backward()
    found = {f"gradient {name}": value.grad for name, value in encoder.named_parameters() if value.grad is not None}
    return {"pooled": pooled.detach(), **found, **{f"buffer {name}": value for name, value in encoder.named_buffers()}}


def test_in_a_single_process_it_equals_torch():
    data = torch.randn(5, 3, 4, 4)
    own, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    for _ in range(2):
        assert torch.equal(own(data), theirs(data))
    assert all(torch.equal(own.state_dict()[key], value) for key, value in theirs.state_dict().items())


def test_two_processes_normalise_as_a_single_process(tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    one = encoded(slice(None))
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.cat([each["pooled"] for each in both]), one["pooled"], rtol=1e-4, atol=1e-5)
    for name, expected in one.items():
        if name.startswith("gradient"):
            largest = float(expected.abs().max())
            assert both[0][name] + both[1][name] == pytest.approx(expected, abs=1e-4 * max(largest, 1e-2)), name
        elif name.startswith("buffer"):
            torch.testing.assert_close(both[0][name], expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(both[0][name], both[1][name]), name


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(encoded(slice(0, 4) if rank == 0 else slice(4, None)), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
