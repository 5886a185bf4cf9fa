"""Shapes stand in the docstrings of the functions that carry the equations, in the words of the axis legend."""

import inspect
import re

import pytest

from core import types
from core.align import losses
from core.diffuse import objective
from core.generate import solvers

AXES = ("batch", "sample", "channel", "length", "width", "point")
FUNCTIONS = [
    function
    for module in (losses, objective, solvers)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
    if re.search("Tensor|Estimate|Latents", " ".join(map(str, function.__annotations__.values())))
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_docstring_gives_shapes(function):
    quoted = re.findall(r"``([^`]+)``", function.__doc__)
    assert any(set(words.split()) & set(AXES) for words in quoted), f"{function.__name__} states no shape"


def test_the_words_are_those_of_the_legend():
    legend = re.findall(r"^(\*?[a-z]+)  +", types.__doc__, re.M)
    assert {"batch", "channel", "*space", "length", "width"} <= set(legend)
    assert len(FUNCTIONS) >= 10
