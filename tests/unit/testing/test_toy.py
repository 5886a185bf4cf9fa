"""The toys are worth training on, and their cohort is there whole or not at all."""

from pathlib import Path

import pytest
import torch

from core.config.registry import load_registry
from core.data.studies import Studies
from core.encode.train import train_autoencoder
from core.engine.distributed import Compute
from core.engine.progress import RunLog
from core.engine.rng import forked_rng
from core.engine.trainer import Trainer
from core.errors import UserError
from core.testing import toy
from core.testing.toy import TOY_GRID, TOY_VECTOR, scan, write_cohort

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("modality", [TOY_GRID, TOY_VECTOR], ids=lambda modality: modality.name)
def test_the_autoencoder_beats_the_mean_of_the_training_data(tmp_path, modality):
    """On studies that it has not seen, with the steps and the step size of the preset."""
    write_cohort(tmp_path / "toy", 200)
    parts, name = modality.parts("tiny"), modality.name
    studies = {}
    for split in ("train", "validation", "test"):
        records = [record for record in scan(tmp_path / "toy") if record.split == split]
        studies[split] = Studies(records, [(name,)] * len(records), {name: parts})
    with forked_rng(0, "net"):
        module = parts.autoencoder.build()
    trainer = Trainer(
        compute=Compute("cpu"), log=RunLog(tmp_path / "metrics.jsonl"), folder=tmp_path, seed=0, log_every=100,
        save_every=1000,
    )  # fmt: skip
    training = load_registry(ROOT / "registry.toml").presets["tiny"].autoencoder
    train_autoencoder(trainer, name, module, [name], studies["train"], training)

    batches = {split: one.batch(name, range(len(one.records))) for split, one in studies.items()}
    with torch.no_grad():
        error = module.decode(module.encode(batches["validation"]).mean).data - batches["validation"].data
    baseline = batches["validation"].data - batches["train"].data.mean(0)
    assert error.square().mean() < 0.25 * baseline.square().mean()


def test_a_cohort_that_was_stopped_is_no_cohort_and_is_completed(tmp_path, monkeypatch):
    written, write = [], toy.write_array

    def stops(path, *rest):
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(toy, "write_array", stops)
        with pytest.raises(KeyboardInterrupt):
            write_cohort(tmp_path, 4)
    with pytest.raises(UserError, match="no toy cohort there"):
        list(scan(tmp_path))
    toy.make_cohort(tmp_path, 4)
    files = [path for record in scan(tmp_path) for paths in record.files.values() for path in paths]
    assert len(files) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(path.name for path in files), "cohort.json"])


def test_a_finished_cohort_is_left_alone(tmp_path, monkeypatch):
    write_cohort(tmp_path, 2)
    monkeypatch.setattr(toy, "write_array", lambda *_: pytest.fail("written again"))
    toy.make_cohort(tmp_path)
    with pytest.raises(UserError, match="toy cohort with num 2, requested: 3"):
        toy.make_cohort(tmp_path, 3)
