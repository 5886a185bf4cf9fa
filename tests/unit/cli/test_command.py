"""A flag under its former name; output in an encoding without arrows."""

import io
import sys
import warnings

import pytest

from core.cli.command import Parser, run
from core.errors import MedWeaveWarning, UserError


@pytest.fixture
def parser() -> Parser:
    flags = Parser(prog="command")
    flags.add_argument("--extended", action="store_true", help="longer")
    flags.add_argument("--condition", action="append", default=[], help="repeatable")
    flags.add_argument("--guidance-scale", type=float, help="a number")
    for former, flag in {"--long": "extended", "--given": "condition", "--scale": "guidance-scale"}.items():
        flags.add_former_name(former, f"--{flag}")
    return flags


def test_a_former_name_does_what_the_flag_does(parser):
    with pytest.warns(MedWeaveWarning) as notes:
        options = parser.parse_args(["--long", "--given", "a", "--condition", "b", "--scale", "2"])
    assert (options.extended, options.condition, options.guidance_scale) == (True, ["a", "b"], 2.0)
    assert "--given is called --condition now" in str(notes[1].message)


def test_defaults_stay_and_names_of_today_give_no_warning(parser):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = parser.parse_args(["--extended"])
    assert (options.extended, options.condition, options.guidance_scale) == (True, [], None)


def test_a_wrong_value_names_the_flag_that_was_written(parser):
    with pytest.raises(UserError, match="argument --scale: invalid float value: 'x'"):
        parser.parse_args(["--scale", "x"])


def test_former_names_are_neither_shown_nor_proposed(parser):
    assert "--long" not in parser.format_help()
    with pytest.raises(UserError, match="unknown argument '--lon'") as error:
        parser.parse_args(["--lon"])
    assert "--long" not in str(error.value)


def test_an_arrow_does_not_end_a_command_where_the_encoding_has_none(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(SystemExit) as ended:
        run(lambda arguments: print("text → ct"), [])
    assert ended.value.code == 0
    output.flush()
    assert output.buffer.getvalue() == b"text \\u2192 ct\n"
