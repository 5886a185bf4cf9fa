"""The flags of ``core.generate``: their former names, and the sampler that they choose."""

from types import SimpleNamespace

import pytest

from core.config.recipe import SamplerChoice
from core.errors import MedWeaveWarning
from core.generate.__main__ import _sampler, parser

DDIM = SamplerChoice(solver="ddim", steps=50, eta=1.0, scale=2.0)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ((None, None, None), DDIM),
        ((9, 3.0, None), SamplerChoice(solver="ddim", steps=9, eta=1.0, scale=3.0)),
        ((9, None, "ddim"), SamplerChoice(solver="ddim", steps=9, eta=1.0, scale=2.0)),
        ((12, None, "dpmpp_2m"), SamplerChoice(solver="dpmpp_2m", steps=12, eta=0.0, scale=2.0)),
    ],
)
def test_another_solver_leaves_the_noise_of_ddim_out(requested, expected):
    assert _sampler(SimpleNamespace(run=SimpleNamespace(config=SimpleNamespace(sampler=DDIM))), *requested) == expected


@pytest.mark.parametrize(
    ("former", "current"),
    [
        (("--given", "ct=a.nii.gz"), ("--condition", "ct=a.nii.gz")),
        (("--couple", "trained"), ("--coupling", "trained")),
        (("--coupling", "helpful"), ("--coupling", "auto")),
        (("--scale", "3.5"), ("--guidance-scale", "3.5")),
    ],
)
def test_a_former_name_parses_alike_with_one_warning_line(former, current):
    with pytest.warns(MedWeaveWarning) as warned:
        options = parser().parse_args(("--out", "x", *former))
    assert options == parser().parse_args(("--out", "x", *current))
    (message,) = [str(warning.message) for warning in warned]
    assert "\n" not in message
    assert current[0] in message
    assert "now" in message


def test_former_names_are_hidden():
    text = parser().format_help()
    assert not any(f"{flag} " in text for flag in ("--given", "--couple", "--scale"))
    assert "helpful" not in text
