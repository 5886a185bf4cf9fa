"""A tiny stage with noise, dropout and a batch per step, as the phases make them."""

import pytest
import torch

from core.config.preset import Training
from core.engine.distributed import Compute
from core.engine.loop import Stage
from core.engine.progress import RunLog
from core.engine.rng import forked_rng, make_generator
from core.engine.trainer import Trainer


class AccumulatingTraining(Training):
    """What `Training` will look like when accumulation is a setting."""

    accumulate: int = 1


@pytest.fixture(scope="session")
def compute():
    return Compute("cpu")


@pytest.fixture
def make_stage():
    def make(steps=12, *, spoil=None, **settings):
        training = AccumulatingTraining(**{"steps": steps, "batch": 10, "learning_rate": 0.05, "warmup": 3, **settings})
        dropout = torch.nn.Dropout(0.2 if training.accumulate == 1 and "drop" not in (spoil or "") else 0.0)
        with forked_rng(0, "weights"):
            net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), dropout, torch.nn.Linear(8, 1))

        def losses(step, shard):
            draws = make_generator(0, "data", step)
            x = torch.randn(training.batch, 4, generator=draws)
            y = x.sum(1, keepdim=True) + 0.1 * torch.randn(training.batch, 1, generator=draws)
            rows = shard.rows(training.batch)
            error = (net(x[rows]) - y[rows]).square().mean()
            terms = {"fit": error, "size": 0.01 * net[0].weight.square().mean()}
            if spoil == "term" and step == 3:
                terms["size"] = terms["size"] * float("nan")
            if spoil == "gradient" and step == 3:
                terms["size"] = (net[3].bias * 0).sqrt().sum()
            return shard.weighted(terms, training.batch), {"rows": float(rows.stop - rows.start)}

        return Stage(
            phase="align", name="1 a-b", modules={"net": net}, losses=losses, training=training, steps=steps,
            learning_rate=training.learning_rate,
        )  # fmt: skip

    return make


@pytest.fixture
def make_trainer(tmp_path, compute):
    def make(folder="run", *, save_every=4, log_every=1):
        log = RunLog(tmp_path / folder / "metrics.jsonl")
        return Trainer(
            compute=compute, log=log, folder=tmp_path / folder, seed=0, log_every=log_every, save_every=save_every
        )

    return make
