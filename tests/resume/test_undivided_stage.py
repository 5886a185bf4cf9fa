"""A stage that two processes do not divide: the main one trains it alone, the other one gets the same weights."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

STEPS, WIDTH = 5, 4


def trained(folder):
    """Train batch normalisation and a layer in this process; save its tensors and losses. A script of the test."""
    from core.config.registry import load_registry
    from core.engine.distributed import Compute
    from core.engine.loop import Stage
    from core.engine.progress import RunLog
    from core.engine.trainer import Trainer

    compute = Compute("cpu")
    torch.manual_seed(compute.index)  # processes begin with different weights
    layer = torch.nn.Sequential(torch.nn.BatchNorm1d(WIDTH), torch.nn.Linear(WIDTH, WIDTH))
    shards = []

    def losses(step, shard):
        shards.append(shard)
        rows = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(step))
        return {"error": (layer(rows) - rows.flip(1)).square().mean()}, {}

    log = RunLog(folder / "metrics.jsonl", silent=not compute.is_main)
    trainer = Trainer(compute=compute, log=log, folder=folder, seed=0, log_every=1, save_every=2)
    training = load_registry().preset("tiny").autoencoder
    stage = Stage(phase="autoencoder", name="words", modules={"words": layer}, losses=losses, training=training,
                  steps=STEPS, learning_rate=1e-2, divided=False)  # fmt: skip
    totals = trainer.run(stage)
    assert all((shard.index, shard.count) == (0, 1) for shard in shards)
    assert len(shards) == (STEPS if compute.is_main else 0)
    torch.save({**layer.state_dict(), "losses": torch.tensor(totals)}, folder / f"{compute.count}-{compute.index}.pt")
    assert not layer.training
    compute.close()


def start(folder, rank, count, port):
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
                   "PYTHONPATH": str(Path(__file__).parents[2]), **{key: str(value) for key, value in group.items()}}  # fmt: skip
    return subprocess.Popen([sys.executable, __file__, str(folder)], env=environment, stderr=subprocess.PIPE, text=True)


def test_the_other_process_gets_the_weights_that_one_process_alone_would_train(tmp_path):
    for count in (1, 2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = tmp_path / str(count)
        folder.mkdir()
        processes = [start(folder, rank, count, port) for rank in range(count)]
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    alone = torch.load(tmp_path / "1/1-0.pt")
    for rank in range(2):
        got = torch.load(tmp_path / f"2/2-{rank}.pt")
        assert got.keys() == alone.keys()
        for name, expected in alone.items():
            torch.testing.assert_close(got[name], expected, rtol=1e-5, atol=1e-6, msg=f"{name} in process {rank}")
    assert alone["losses"].shape == (STEPS,)
    assert float(alone["losses"][-1]) != pytest.approx(float(alone["losses"][0]))


if __name__ == "__main__":
    trained(Path(sys.argv[1]))
