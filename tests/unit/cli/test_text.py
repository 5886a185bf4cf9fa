"""What a terminal gets to see: no command of a foreign text reaches it."""

import errno
import sys

import pytest

from core.cli.command import run
from core.cli.text import as_single_line, printable
from core.errors import MedWeaveWarning, UserError

HOSTILE = "a\x1b]0;title\x07\x1b[2Jb\r\x9b1mc\u202etxt.\x7f\x00"


def test_control_characters_are_shown_and_line_ends_stay():
    assert printable(HOSTILE) == "a\\x1b]0;title\\x07\\x1b[2Jb\\r\\x9b1mc\\u202etxt.\\x7f\\x00"
    assert printable("两个\n\tÜber µm → 3 µm") == "两个\n\tÜber µm → 3 µm"
    assert as_single_line("one\ntwo\tthree") == "one\\ntwo three"


@pytest.mark.parametrize("kind", ["error", "warning", "unforeseen"])
def test_errors_and_warnings_are_a_line_without_control_characters(kind, capsys):
    def command(arguments):
        if kind == "warning":
            import warnings

            warnings.warn(MedWeaveWarning(f"{HOSTILE}\nsecond"), stacklevel=2)
            return
        raise (UserError if kind == "error" else ValueError)(f"{HOSTILE}\nsecond")

    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", None)
        run(command, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert "\\x1b]0;title" in line


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_line_that_says_what_to_do(number, capsys):
    def command(arguments):
        raise OSError(number, "No space left on device", "runs/mine/weights")

    with pytest.raises(SystemExit) as ended:
        run(command, [])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the disk is full (")
    assert error.endswith("free some space and run the command again\n")
    assert sys.exc_info()[0] is None
