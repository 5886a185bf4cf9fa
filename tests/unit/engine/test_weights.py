"""Weights on disk: bit-equal, whole or absent, and refused where they do not fit."""

from hashlib import sha256

import pytest
import torch

from core.engine.checkpoint import ABOUT, WEIGHTS, digest_of, load_weights, save_weights
from core.engine.rng import forked_rng
from core.errors import UserError


def net(seed, width=3):
    with forked_rng(seed):
        made = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.BatchNorm1d(width))
    made[1].register_buffer("odd", torch.tensor([float("inf"), -0.0, 1e-42, 1 / 3]))
    made.register_buffer("short", torch.tensor([1 / 3], dtype=torch.bfloat16))
    return made


def sha(path):
    return sha256(path.read_bytes()).hexdigest()


def test_a_round_trip_keeps_every_bit(tmp_path):
    first, second = net(0), net(1)
    save_weights(first, tmp_path / "a", {"key": "toy"})
    assert load_weights(second, tmp_path / "a") == {"key": "toy"}
    save_weights(second, tmp_path / "b", {"key": "toy"})
    assert sha(tmp_path / "a" / WEIGHTS) == sha(tmp_path / "b" / WEIGHTS)
    assert sha(tmp_path / "a" / ABOUT) == sha(tmp_path / "b" / ABOUT)
    assert digest_of(first.state_dict()) == digest_of(second.state_dict()) != digest_of(net(1).state_dict())


def test_a_single_bit_changes_the_digest(tmp_path):
    first = net(0)
    save_weights(first, tmp_path / "a", {})
    with torch.no_grad():
        first[0].weight.view(-1).view(torch.int32)[0] ^= 1
    save_weights(first, tmp_path / "b", {})
    assert sha(tmp_path / "a" / WEIGHTS) != sha(tmp_path / "b" / WEIGHTS)


def test_no_changed_bit_is_read(tmp_path):
    save_weights(net(0), tmp_path / "a", {"scale": [1.5]})
    path = tmp_path / "a" / WEIGHTS
    whole = path.read_bytes()
    draws = torch.Generator().manual_seed(0)
    for place in torch.randint(0, 8 * len(whole), (300,), generator=draws).tolist():
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match="no readable weights"):
            load_weights(net(1), tmp_path / "a")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    broken = net(0)
    broken[0].weight.data[1, 2] = float("nan")
    save_weights(broken, tmp_path, {})
    with pytest.raises(UserError, match=r"weights are not finite \(0\.weight\)"):
        load_weights(net(1), tmp_path)


def test_weights_that_do_not_fit_are_refused_and_change_nothing(tmp_path):
    save_weights(net(0, width=5), tmp_path / "a", {})
    own = net(1)
    before = digest_of(own.state_dict())
    with pytest.raises(UserError, match="weights of another size"):
        load_weights(own, tmp_path / "a")
    with pytest.raises(UserError, match="no readable weights"):
        load_weights(own, tmp_path / "nowhere")
    save_weights(torch.nn.Linear(4, 3), tmp_path / "c", {})
    with pytest.raises(UserError, match=r"missing: 0\.bias"):
        load_weights(own, tmp_path / "c")
    assert digest_of(own.state_dict()) == before
