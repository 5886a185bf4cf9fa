"""What the flags of ``core.generate`` make of a run's sampler."""

from types import SimpleNamespace

import pytest

from core.config.recipe import SamplerChoice
from core.generate.__main__ import _sampler

DDIM = SamplerChoice(solver="ddim", steps=50, eta=1.0, scale=2.0)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, None, None), DDIM),
        ((9, 3.0, None), SamplerChoice(solver="ddim", steps=9, eta=1.0, scale=3.0)),
        ((9, None, "ddim"), SamplerChoice(solver="ddim", steps=9, eta=1.0, scale=2.0)),
        ((12, None, "dpmpp_2m"), SamplerChoice(solver="dpmpp_2m", steps=12, eta=0.0, scale=2.0)),
    ],
)
def test_another_solver_leaves_the_noise_of_ddim_out(asked, expected):
    assert _sampler(SimpleNamespace(run=SimpleNamespace(config=SimpleNamespace(sampler=DDIM))), *asked) == expected
