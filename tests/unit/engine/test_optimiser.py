import math

import pytest

from core.config.preset import Training
from core.engine.optimiser import make_optimiser, schedule
from core.errors import UserError


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0), (100, 10), (7, 3), (1, 0), (1, 5)])
def test_closed_form(steps, warmup):
    """(step + 1) / warmup, then cos²(π/2 · progress): written by the half-angle, not as the code has it."""
    for step in range(steps):
        expected = (
            (step + 1) / warmup if step < warmup else math.cos(math.pi / 2 * (step - warmup) / (steps - warmup)) ** 2
        )
        assert schedule(step, steps, warmup) == pytest.approx(expected, abs=1e-12)


def test_values_along_the_schedule():
    assert schedule(0, 110, 10) == pytest.approx(0.1)
    assert schedule(9, 110, 10) == schedule(10, 110, 10) == 1
    assert schedule(60, 110, 10) == pytest.approx(0.5)
    assert schedule(109, 110, 10) == pytest.approx(0, abs=1e-3)
    assert schedule(109, 110, 10) > 0


def test_nothing_to_train_is_refused():
    with pytest.raises(UserError, match="every weight of this phase is frozen"):
        make_optimiser([], Training(steps=1, batch=1, learning_rate=1e-3), 1e-3)
