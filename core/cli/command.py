"""What all commands share: a wrong input is one line and exit code 2; a warning is one line."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import traceback
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import core
from core.cli.text import as_single_line
from core.errors import MedWeaveWarning, UserError, nearest

_DEBUG = "MEDWEAVE_DEBUG"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong argument with one line, and the nearest flag."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise the message as a `UserError`."""
        if message.startswith("unrecognized arguments: "):
            flag = message.removeprefix("unrecognized arguments: ").split()[0]
            flags = [option for action in self._visible() for option in action.option_strings]
            raise UserError(f"unknown argument '{flag}'{nearest(flag, flags)} (see {self.prog} --help)")
        raise UserError(f"{message} (see {self.prog} --help)")

    def add_former_name(self, former: str, flag: str) -> None:
        """Accept a flag under the name that it had before: hidden from the help, with one warning line."""
        current = self._option_string_actions[flag]
        self.add_argument(
            former,
            dest=current.dest,
            nargs=current.nargs,
            type=current.type or str,
            choices=current.choices,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
            metavar=current.metavar,
            action=_former(current),
        )

    def _visible(self) -> list[argparse.Action]:
        return [action for action in self._actions if action.help is not argparse.SUPPRESS]


def _former(current: argparse.Action) -> type[argparse.Action]:
    """An action that warns of the former name, and then does what the flag of today does."""

    class Former(argparse.Action):
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: Any,
            option_string: str | None = None,
        ) -> None:
            flag = current.option_strings[0]
            message = f"{option_string} is called {flag} now; the former name will go with the next version"
            warnings.warn(MedWeaveWarning(message), stacklevel=2)
            current(parser, namespace, values, flag)

    return Former


def path(text: str) -> Path:
    """Return a path argument. An empty one is an error, because `Path` would take the current folder for it."""
    if not text.strip():
        raise ArgumentTypeError("the path is empty; give one, or leave the flag out")
    return Path(text)


def run(command: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command on the process's arguments and exit: 0 done, 1 unforeseen, 2 wrong input, 130 interrupted."""
    warnings.showwarning = _show_warning
    _accept_every_character()
    if core.shadowed_plugins:
        warnings.warn(MedWeaveWarning(core.shadowed_plugins), stacklevel=2)
    try:
        command(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"error: {as_single_line(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (| head); a second error at interpreter exit would say nothing new.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        if isinstance(error, OSError) and error.errno in _FULL:
            what = as_single_line(str(error))
            print(f"error: the disk is full ({what}); free some space and run the command again", file=sys.stderr)
            sys.exit(2)
        print(f"error: {as_single_line(_unexpected(error))}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _accept_every_character() -> None:
    """Write an arrow of the table as ``\\u2192`` where the output's encoding has none, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _unexpected(error: Exception) -> str:
    """Return an unforeseen error in one line: what, where, and how to see its traceback."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"unexpected {what} ({frame.filename}:{frame.lineno}); set {_DEBUG}=1 to see the whole traceback"


_default_showwarning = warnings.showwarning


def _show_warning(message: Warning | str, category: type[Warning], *where: object, **rest: object) -> None:
    if issubclass(category, MedWeaveWarning):
        print(f"warning: {as_single_line(str(message))}", file=sys.stderr)
    else:
        _default_showwarning(message, category, *where, **rest)  # type: ignore[arg-type]
