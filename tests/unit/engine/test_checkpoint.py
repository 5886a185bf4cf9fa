"""Checkpoints on disk: two remain, damaged ones are skipped, and resuming gives the same run."""

import json

import pytest
import torch

from core.engine.checkpoint import Checkpoints, digest_of, load_weights, read_tensors, save_weights, write_tensors
from core.engine.loop import StepLoop
from core.engine.progress import RunLog
from core.errors import MedWeaveWarning, UserError


def states(trainer):
    return sorted(path.name for path in (trainer.folder / "checkpoints" / "align_1_a-b").iterdir())


class Killed(Exception):
    pass


def run_until(trainer, stage, step):
    """Stop a run in the middle of a step, as a kill would."""
    losses = stage.losses

    def stopping(at, shard):
        if at == step:
            raise Killed
        return losses(at, shard)

    object.__setattr__(stage, "losses", stopping)
    with pytest.raises(Killed):
        trainer.run(stage)


@pytest.mark.parametrize("step", [0, 1, 4, 5, 11])
def test_an_interrupted_stage_resumes_bit_equal(make_stage, make_trainer, step):
    whole, stage = make_trainer("whole"), make_stage()
    losses = whole.run(stage)
    broken = make_trainer("broken")
    run_until(broken, make_stage(), step)
    again = make_stage()
    assert broken.run(again) == losses
    assert (broken.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
    for name, value in stage.modules["net"].state_dict().items():
        assert torch.equal(value, again.modules["net"].state_dict()[name])


def test_the_two_newest_checkpoints_stay_until_the_stage_is_forgotten(make_stage, make_trainer):
    trainer = make_trainer()
    trainer.run(make_stage())
    assert states(trainer) == ["000000008.safetensors", "000000012.safetensors"]
    trainer.forget("align 1 a-b")
    assert not (trainer.folder / "checkpoints").exists()


def test_an_incomplete_checkpoint_is_skipped(make_stage, make_trainer):
    whole, trainer = make_trainer("whole"), make_trainer()
    losses = whole.run(make_stage())
    trainer.run(make_stage())
    newest = trainer.folder / "checkpoints" / "align_1_a-b" / "000000012.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    (newest.parent / ".medweave-0123.safetensors").write_bytes(b"half")
    with pytest.warns(MedWeaveWarning, match=r"000000012.*cannot be read.*resumes from an earlier checkpoint"):
        assert trainer.run(make_stage()) == losses
    assert states(trainer) == ["000000008.safetensors", "000000012.safetensors"], "and its rests are gone"
    assert (trainer.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_a_checkpoint_is_tensors_and_json(make_stage, make_trainer):
    trainer = make_trainer()
    trainer.run(make_stage())
    tensors, about = Checkpoints(trainer.folder / "checkpoints", "align 1 a-b").newest()
    assert about["step"] == 12
    assert about["schedule"] == {"learning_rate": 0.05, "warmup": 3}
    assert {name.partition("/")[0] for name in tensors} == {"weights", "moments", "average", "losses"}
    assert "moments/net.0.weight/exp_avg_sq" in tensors


def test_a_checkpoint_of_another_network_is_refused(make_stage, make_trainer, compute, tmp_path):
    loop = StepLoop(make_stage(), compute, 0)
    state = loop.state()
    with pytest.raises(UserError, match=r"weights of another size.*net.0.bias \(9,\) for \(8,\)"):
        loop.restore({**state, "weights/net.0.bias": torch.zeros(9)}, tmp_path)
    with pytest.raises(UserError, match=r"missing: net\.0\.bias"):
        loop.restore({name: value for name, value in state.items() if name != "weights/net.0.bias"}, tmp_path)


def test_the_log_is_cut_and_holds_what_json_cannot(tmp_path):
    log = RunLog(tmp_path / "a" / "metrics.jsonl")
    assert log.size() == 0
    log.write(step=0, loss=float("nan"))
    size = log.size()
    log.write(step=1, loss=1.0)
    log.cut(size)
    assert json.loads(log.path.read_text()) == {"step": 0, "loss": "nan"}
    silent = RunLog(tmp_path / "b" / "metrics.jsonl", silent=True)
    silent.write(step=0)
    assert not (tmp_path / "b").exists()


def test_tied_weights_are_written_and_read(tmp_path):
    def tied():
        net = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
        net[1].weight = net[0].weight
        return net

    first, second = tied(), tied()
    save_weights(first, tmp_path / "net", {"a": 1})
    assert load_weights(second, tmp_path / "net") == {"a": 1}
    assert torch.equal(first[1].weight, second[0].weight)
    assert second[0].weight is second[1].weight
    assert json.loads((tmp_path / "net" / "about.json").read_text()) == {"a": 1}


def test_weights_that_are_missing_foreign_or_do_not_fit(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(UserError, match="no readable weights"):
        load_weights(torch.nn.Linear(2, 2), tmp_path)
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="not written by MedWeave"):
        load_weights(torch.nn.Linear(2, 2), tmp_path)
    save_weights(torch.nn.Linear(2, 3), tmp_path, {})
    with pytest.raises(UserError, match=r"another size \(weight \(3, 2\) for \(2, 2\)"):
        load_weights(torch.nn.Linear(2, 2), tmp_path)
    with pytest.raises(UserError, match=r"missing: none; unknown: bias"):
        load_weights(torch.nn.Linear(2, 3, bias=False), tmp_path)


def test_a_digest_tells_values_names_and_shapes(tmp_path):
    value = torch.arange(6.0)
    digests = {
        digest_of(tensors)
        for tensors in ({"a": value}, {"b": value}, {"a": value.view(2, 3)}, {"a": value + 1}, {"a": value.bfloat16()})
    }
    assert len(digests) == 5
    write_tensors(tmp_path / "a.safetensors", {"a": value}, {"x": [1.5]})
    tensors, about = read_tensors(tmp_path / "a.safetensors")
    assert digest_of(tensors) == digest_of({"a": value})
    assert about == {"x": [1.5]}
