"""Weights in 8 bits: within half a step of what they were, and nothing else is touched."""

import torch

from core.engine.int8 import SCALE, from_int8, to_int8


def test_matrices_and_kernels_are_within_half_a_step():
    draws = torch.Generator().manual_seed(0)
    state = {
        "matrix": torch.randn(40, 64, generator=draws) * torch.logspace(-4, 3, 40)[:, None],
        "kernel": torch.randn(16, 8, 3, 3, generator=draws),
        "zeros": torch.zeros(64, 64),
    }
    stored = to_int8(state)
    assert all(stored[name].dtype == torch.int8 for name in state)
    back = from_int8(stored)
    assert back.keys() == state.keys()
    for name, value in state.items():
        step = value.abs().flatten(1).amax(1) / 127
        error = (back[name] - value).abs().flatten(1).amax(1)
        assert bool((error <= 0.5001 * step + 1e-12).all()), name
    size = sum(value.numel() * value.element_size() for value in stored.values())
    assert size < 0.3 * 4 * sum(value.numel() for value in state.values())


def test_what_is_small_or_no_weight_stays_as_it_is():
    state = {"bias": torch.randn(4096), "small": torch.randn(8, 8), "count": torch.arange(2048).view(2, -1)}
    stored = to_int8(state)
    assert all(torch.equal(stored[name], value) for name, value in state.items())
    assert not [name for name in stored if name.endswith(SCALE)]
    assert from_int8(state).keys() == state.keys()
